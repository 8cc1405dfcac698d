"""Stages of one's own, for tests that suspend what others share or need another budget, and a watch for crashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from .proxy import StartProxy
from .stage import ENVIRONMENT, Stage, crashes, pool_yaml
from .upstream import Upstream

Perform = Callable[..., Stage]


@pytest.fixture
def no_crash(stage: Stage) -> Iterator[None]:
    """The shared proxy logs no crash while the test runs."""
    before = len(stage.proxy.log_text())
    yield
    assert not crashes(stage.proxy, before)
    # The bodies of all tests together would fill the memory, and every look at what was seen goes through them.
    stage.main.forget()
    stage.other.forget()


@pytest.fixture
def perform(mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream) -> Iterator[Perform]:
    """Open a stage of one's own: ``perform(routes=..., extra=..., **options)``, with the options of ``Proxy``.

    ``main``: a base URL to use in the place of the first upstream's.
    """
    opened: list[Stage] = []

    def open_stage(
        *,
        routes: str = "",
        extra: str = "",
        plain: bool = False,
        main: str = "",
        env: Mapping[str, str] = ENVIRONMENT,
        **options: object,
    ) -> Stage:
        pool = pool_yaml(upstream, other_upstream, routes, plain=plain, extra=extra)
        if main:
            pool = pool.replace(upstream.tls_url, main)
        stage = Stage(mitmdump(pool_yaml=pool, env=env, **options), upstream, other_upstream)
        opened.append(stage)
        return stage

    yield open_stage
    for stage in opened:
        assert not crashes(stage.proxy)
