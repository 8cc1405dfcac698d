"""Metrics as Prometheus text (the optional extra ``mitmproxy-understudy[metrics]``), and a page for them on loopback.

The page is at ``http://127.0.0.1:PORT/metrics``, for a proxy without a web page of its own (law 12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, override

from mitmproxy import http
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from understudy.failover import own_name
from understudy.model import Scope, Suspension
from understudy.proxy.exchange_facts import Facts

DRILL = "drill"
"""A label of all that is counted of a call: ``true`` in a drill, else empty, which Prometheus takes for absent."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what :meth:`Metrics.render` returns."""
FIRST_EVENT_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
"""Seconds until the first byte for the tool: models think."""
FAILOVER_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
"""Seconds from the first failed attempt to the first byte of a good one."""

MOST_MODELS = 1000
"""How many models of credentials are told apart."""


class _Suspended(Collector):
    """How much is out of rotation right now, by scope."""

    def __init__(self, running: Callable[[], Iterable[Suspension]]) -> None:
        self._running = running

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("understudy_suspended", "What is out of rotation now.", labels=["scope"])
        counts = dict.fromkeys(Scope, 0)
        for suspension in self._running():
            if suspension.key.drill:
                continue  # it keeps no other call from anybody
            counts[suspension.key.scope] += 1
        for scope, count in counts.items():
            family.add_metric([scope.value], count)
        yield family


class Metrics:
    """A listener of the journal. ``running``: the suspensions that run, asked when the metrics are read."""

    def __init__(self, running: Callable[[], Iterable[Suspension]]) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"understudy_{name}", text, (*labels, DRILL), registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            labels = ["route", DRILL]
            return Histogram(f"understudy_{name}", text, labels, registry=self.registry, buckets=buckets)

        self._requests = counter("requests", "Calls that have a route, by how they ended.", "route", "mode", "answer")
        self._attempts = counter("attempts", "Attempts, by what came of them.", "credential", "label")
        self._verdicts = counter("verdicts", "Replies that were judged.", "mode", "label")
        self._opinions = counter(
            "second_opinions", "Second opinions, by what they came to (candidate, request, undecided).", "compared"
        )
        self._moves = counter(
            "moves", "Conversations that another account went on with, without sealed parts.", "route"
        )
        self._replays = counter("replays", "Attempts after the first one of a call.", "route")
        self._suspensions = counter("suspensions", "Suspensions that attempts have earned.", "credential", "label")
        self._first_event = histogram(
            "first_event_seconds", "From a streamed call to the first byte for the tool.", FIRST_EVENT_BUCKETS
        )
        self._failover = histogram(
            "failover_seconds", "From the first failed attempt to the first byte of a good reply.", FAILOVER_BUCKETS
        )
        tokens = ("credential", "model", "kind")
        self._tokens = counter("tokens", "Tokens of replies that tools got, as the replies count them.", *tokens)
        self._lost = counter("lost_tokens", "Tokens of replies that no tool got: replays and hedges.", *tokens)
        self._another = counter("another_model", "Replies that name another model than was sent.", "credential")
        self._models: set[tuple[str, str]] = set()
        self.registry.register(_Suspended(running))

    def __call__(self, flow: http.HTTPFlow, facts: Facts) -> None:
        """Count an exchange that is over."""
        route, mode = facts.get("route", ""), facts.get("mode", "enforce")
        drill = "true" if facts.get("drill") is True else ""
        tried = facts["tried"]
        self._requests.labels(route, mode, _answer(facts), drill).inc()
        for entry in tried:
            self._attempts.labels(own_name(entry["credential"]), entry["label"], drill).inc()
            self._verdicts.labels(mode, entry["label"], drill).inc()
            if entry.get("compared") in ("candidate", "request", "undecided"):
                self._opinions.labels(entry["compared"], drill).inc()
            if "usage" in entry:
                self._count_tokens(facts, entry, drill)
            if "served_model" in entry:
                self._another.labels(own_name(entry["credential"]), drill).inc()
        for entry in (*tried, *([facts["ended"]] if "ended" in facts else ())):
            if "suspended" in entry:
                self._suspensions.labels(own_name(entry["credential"]), entry["label"], drill).inc()
        if "moved" in facts:
            self._moves.labels(route, drill).inc()
        if "observed" in facts:
            self._verdicts.labels(mode, facts["observed"]["label"], drill).inc()
        if len(tried) > 1:
            self._replays.labels(route, drill).inc(len(tried) - 1)
        if "released" in facts and facts.get("answer"):
            if facts.get("streamed"):
                self._first_event.labels(route, drill).observe(facts["released"])
            if "failing" in facts and tried[facts["answer"] - 1]["label"] == "ok":
                self._failover.labels(route, drill).observe(facts["released"] - facts["failing"])

    def _count_tokens(self, facts: Facts, entry: Facts, drill: str) -> None:
        """The tokens of a reply. A model that only the tool has named is ``*``: tools may name what they like."""
        credential, model = own_name(entry["credential"]), entry["model"]
        if model == facts.get("alias") != facts.get("route"):
            model = "*"
        if (credential, model) not in self._models:
            if len(self._models) >= MOST_MODELS:
                model = "*"
            self._models.add((credential, model))
        counter = self._lost if entry.get("lost") is True else self._tokens
        drill = "true" if facts.get("drill") is True else ""
        for kind, count in entry["usage"].items():
            counter.labels(credential, model, kind, drill).inc(count)

    content_type = CONTENT_TYPE

    def render(self) -> bytes:
        """All of it as text; its type is ``CONTENT_TYPE``. To be called in the thread of the proxy."""
        return generate_latest(self.registry)


def _answer(facts: Facts) -> str:
    """How a call ended: ``ok``, ``replayed`` (a good reply after others), ``error`` (a real one), ``own``, ``none``."""
    if "observed" in facts:
        return "observed"
    answer = facts.get("answer")
    if not answer:
        return "own" if answer == 0 else "none"
    if facts["tried"][answer - 1]["label"] != "ok":
        return "error"
    return "replayed" if len(facts["tried"]) > 1 else "ok"


LOOPBACK = "127.0.0.1"
HOSTS = r"(localhost|127\.0\.0\.1)"
"""The names it answers to. Any other name in ``Host`` is a web page elsewhere that had its name point here."""


class _Metrics(RequestHandler):
    def initialize(self, render: Callable[[], bytes], content_type: str) -> None:
        self._render_text, self._content_type = render, content_type

    @override
    def get(self) -> None:
        self.set_header("Content-Type", self._content_type)
        self.write(self._render_text())


def serve(port: int, render: Callable[[], bytes], content_type: str) -> Callable[[], None]:
    """Serve on loopback, in the running event loop; returns what ends it. Raises OSError when the port is taken."""
    application = Application()
    arguments: dict[str, Any] = {"render": render, "content_type": content_type}
    application.add_handlers(HOSTS, [(r"/metrics", _Metrics, arguments)])
    server = HTTPServer(application)
    server.listen(port, LOOPBACK)
    return server.stop
