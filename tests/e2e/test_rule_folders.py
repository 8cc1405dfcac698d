"""Rules from a folder of the owner, in YAML and in Python, through a real mitmdump over TLS, and their reload."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .authority import Authority
from .behaviours import Gate, json_reply, raw, sse
from .client import End
from .conftest import Perform
from .proxy import Proxy, StartProxy
from .stage import APIS, CHAT, ENVIRONMENT, RESPONSES, TOOL, Api, Stage, data, pool_yaml, whole
from .upstream import Upstream

YAML = """\
id: acme/{name}
label: {label}
about: What no shipped rule knows.
source: https://acme.example/errors
status: stable
when:
  - code: {code}
  - message|contains: "the {name} line of acme"
{then}
examples:
  matches:
    - {{status: 400, body: {{error: {{code: {code}, message: Refused.}}}}}}
  near_misses:
    - {{status: 400, body: {{error: {{code: other, message: Refused.}}}}}}
"""
PYTHON = '''\
"""What no shipped rule knows, told by the state of a seat.

Source: https://acme.example/errors
"""

from understudy.reply import Reply
from understudy.rules import Label, Verdict

EXAMPLES = {
    "matches": [{"label": "model_unsupported", "status": 400, "body": {"error": {"seat": {"state": "gone"}}}}],
    "near_misses": [{"status": 400, "body": {"error": {"seat": {"state": "taken"}}}}],
}


def classify(reply: Reply) -> Verdict | None:
    if "gone" in (reply.path("error.seat.state"), reply.path("response.error.seat.state")):
        return Verdict(Label.MODEL_UNSUPPORTED)
    return None
'''
LABELS = {
    "refused": "model_unsupported",
    "feature": "capability_unsupported",
    "slow": "rate_limited",
    "spent": "quota_exhausted",
    "locked": "credential_rejected",
    "crowded": "overloaded",
    "long": "context_exceeded",
}


def code_of(name: str) -> str:
    return f"zx-{name}"


def write_rule(folder: Path, name: str, then: str = "", label: str = "", code: str = "") -> Path:
    file = folder / "acme" / f"{name}.yaml"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(file, YAML.format(name=name, label=label or LABELS[name], code=code or code_of(name), then=then))
    return file


def replace(file: Path, text: str) -> None:
    """Write a file beside and move it: the proxy may look at any moment."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.rename(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A rule folder with one rule for each label and one in Python."""
    return fill(tmp_path / "rules")


def fill(folder: Path) -> Path:
    for name in LABELS:
        write_rule(folder, name)
    (folder / "acme" / "seats.py").write_text(PYTHON)
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    """A stage whose proxy has the folder, for tests that suspend nothing but candidates of their own."""
    folder = fill(tmp_path_factory.mktemp("taught") / "rules")
    with Upstream(authority) as main, Upstream(authority) as other:
        options = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool_yaml(main, other)}
        settings = {"pool_rules": str(folder)}
        with Proxy(tmp_path_factory.mktemp("proxy"), confdir, settings=settings, **options) as proxy:  # type: ignore[arg-type]
            yield Stage(proxy, main, other)


def error(name: str, message: str = "Refused.") -> dict[str, object]:
    """An error that only a rule of the folder knows."""
    if name == "seat":
        return {"error": {"message": message, "seat": {"state": "gone"}}}
    return {"error": {"message": message, "code": code_of(name).upper()}}


both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
both_kinds = pytest.mark.parametrize("name", ["refused", "seat"], ids=["yaml", "python"])


@both_kinds
@both_forms
@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
def test_a_rule_of_the_owner_refuses(taught: Stage, api: Api, stream: bool, name: str) -> None:
    """F01, F11: under a 400 and under a 200 with a top-level error object; the next call goes to B at once."""
    for status in (400, 200):
        alias = taught.alias()
        taught.play(alias, {api.first: json_reply(status, error(name)), api.second: whole(api, stream=stream)})
        for _ in range(2):
            assert taught.call(api, alias, stream=stream).status == 200
        assert taught.order(alias) == [api.first, api.second, api.second]


@both_kinds
@pytest.mark.parametrize("api", [CHAT, RESPONSES], ids=["chat", "responses"])
def test_s02_an_error_in_a_stream(taught: Stage, api: Api, name: str) -> None:
    """S02: an error event before any output is judged by the owner's rules as well."""
    alias = taught.alias()
    inner = error(name)
    event = data(inner) if api is CHAT else data({"type": "response.failed", "response": inner}, "response.failed")
    taught.play(alias, {api.first: sse(*api.lifecycle, event), api.second: whole(api, stream=True)})
    response = taught.call(api, alias, stream=True)
    assert (response.status, response.end) == (200, End.CLEAN)
    assert taught.order(alias) == [api.first, api.second]


@pytest.mark.parametrize("status", [400, 422, 409, 413])
@both_forms
def test_f07_a_fault_of_the_request(taught: Stage, status: int, stream: bool) -> None:
    """F07: one attempt, the upstream's bytes and headers reach the tool, nothing is suspended."""
    alias = taught.alias()
    body = b'{"error": {"message": "malformed payload", "seat": {"state": "taken"}}}'
    kind = [("content-type", "application/json"), ("x-odd", "kept")]
    taught.play(alias, {"a": raw(status, kind, body)})
    for _ in range(2):
        response = taught.call(CHAT, alias, stream=stream)
        assert (response.status, response.body, response.header("x-odd")) == (status, body, "kept")
    assert taught.order(alias) == ["a", "a"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": 'Invalid message content: "ask the refused line of acme to answer"'}}),
        (400, {"error": {"message": "Bad tool call arguments: " + json.dumps(error("refused"))}}),
        (400, {"error": {"message": "Bad request"}, "request": error("refused"), "seat": {"state": "gone"}}),
        (200, {"choices": [{"message": {"role": "assistant", "content": json.dumps(error("refused"))}}]}),
        (200, {"choices": [{"message": {"tool_calls": [{"function": {"arguments": json.dumps(error("seat"))}}]}}]}),
    ],
)
def test_f08_words_of_somebody_else(taught: Stage, status: int, body: object) -> None:
    """F08: the wording inside an echoed prompt, an assistant text, a tool argument: no refusal."""
    alias = taught.alias("sure")
    taught.play(alias, {"a": json_reply(status, body)})
    for _ in range(2):
        assert taught.call(CHAT, alias).json == body
    assert taught.order(alias) == ["a", "a"]


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
@pytest.mark.parametrize(
    "body",
    [b"<html><body>the refused line of acme</body></html>", b"404 page not found", b'{"detail": "Not Found"}'],
)
def test_f09_a_wrong_path(taught: Stage, api: Api, body: bytes) -> None:
    """F09: released, nothing suspended; another one is asked once in an hour (J02)."""
    alias = taught.alias()
    kind = "application/json" if body.startswith(b"{") else "text/html" if body.startswith(b"<") else "text/plain"
    lost = raw(404, [("content-type", kind)], body)
    taught.play(alias, {api.first: lost, api.second: lost})
    for _ in range(2):
        assert taught.call(api, alias).body == body
    assert taught.order(alias) in ([api.first, api.first], [api.first, api.second, api.first])


@both_forms
def test_f10_a_feature(taught: Stage, stream: bool) -> None:
    """F10: only a candidate with another upstream model is tried, and nothing is suspended."""
    alias = taught.alias("sub")
    taught.play(alias, {"a": json_reply(400, error("feature"))})
    taught.play("substitute", {"b": whole(CHAT, stream=stream)})
    for _ in range(2):
        assert taught.call(CHAT, alias, stream=stream).status == 200
    assert taught.order(alias) == ["a", "a"]
    alone = taught.alias("pair")
    taught.play(alone, {"a": json_reply(400, error("feature")), "b": whole(CHAT, stream=stream)})
    assert taught.call(CHAT, alone, stream=stream).status == 400
    assert taught.order(alone) == ["a"]


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([("retry-after", "120")], "suspended 2m"),
        ([("retry-after-ms", "90000")], "suspended 90s|suspended 1m30s|suspended 2m"),
        ([("retry-after", "1555200")], "suspended 30m"),
        ([("retry-after", "-5")], "suspended 2s"),
        ([("retry-after", "nan")], "suspended 2s"),
        ([("retry-after", "Mon, 01 Jan 2001 00:00:00 GMT")], "suspended 2s"),
    ],
    ids=["seconds", "milliseconds", "days", "negative", "nan", "past"],
)
@both_forms
def test_l01_l03_a_limit(taught: Stage, headers: list[tuple[str, str]], told: str, stream: bool) -> None:
    """L01, L03: suspended as long as the reply says where that can be believed, and B answers at once.

    What is not believed is 1 s with up to 10 % on top, which is told rounded up.
    """
    alias = taught.alias("pair")
    taught.play(alias, {"a": json_reply(400, error("slow"), headers), "b": whole(CHAT, stream=stream)})
    assert taught.call(CHAT, alias, stream=stream).status == 200
    assert taught.order(alias) == ["a", "b"]
    taught.proxy.wait_for_log(rf"{alias}: rate_limited by acme/slow, (?:{told})\b")


@both_forms
def test_l08_no_capacity(taught: Stage, stream: bool) -> None:
    """L08: the same candidate once more, then B."""
    alias = taught.alias("pair")
    taught.play(alias, {"a": json_reply(400, error("crowded")), "b": whole(CHAT, stream=stream)})
    assert taught.call(CHAT, alias, stream=stream).status == 200
    assert taught.order(alias) == ["a", "a", "b"]


def test_l04_a_quota_of_the_account(perform: Perform, folder: Path) -> None:
    """L04: every model of that credential is skipped."""
    stage = perform(settings={"pool_rules": str(folder)})
    first, second = stage.alias("pair"), stage.alias("pair")
    stage.play(first, {"a": json_reply(400, error("spent")), "b": CHAT.answers()})
    stage.play(second, {"a": CHAT.answers(), "b": CHAT.answers()})
    for alias in (first, second):
        assert stage.call(CHAT, alias).status == 200
    assert (stage.order(first), stage.order(second)) == (["a", "b"], ["b"])


def test_l05_a_quota_of_one_model(perform: Perform, folder: Path) -> None:
    """L05: where the rule says that it is the candidate's, siblings stay free."""
    write_rule(folder, "spent", then="then: {scope: candidate, seconds: 90}")
    stage = perform(settings={"pool_rules": str(folder)})
    first, second = stage.alias("pair"), stage.alias("pair")
    stage.play(first, {"a": json_reply(400, error("spent")), "b": CHAT.answers()})
    stage.play(second, {"a": CHAT.answers()})
    for alias in (first, first, second):
        assert stage.call(CHAT, alias).status == 200
    assert (stage.order(first), stage.order(second)) == (["a", "b", "b"], ["a"])


def test_l06_l07_a_credential(perform: Perform, folder: Path) -> None:
    """L06, L07: the next credential is tried; one that is rejected is skipped for every model, a refused one is not."""
    stage = perform(settings={"pool_rules": str(folder)})
    first, second, third = (stage.alias("pair") for _ in range(3))
    stage.play(first, {"a": json_reply(403, error("refused")), "b": CHAT.answers()})
    stage.play(second, {"a": json_reply(401, error("locked")), "b": CHAT.answers()})
    stage.play(third, {"a": CHAT.answers(), "b": CHAT.answers()})
    for alias in (first, second, third):
        assert stage.call(CHAT, alias).status == 200
    assert [stage.order(alias) for alias in (first, second, third)] == [["a", "b"], ["a", "b"], ["b"]]


# -- reload -----------------------------------------------------------------------------------------------------


OFTEN = """
import understudy.addon

understudy.addon.INTERVAL = 0.02
"""
"""A script that has the proxy look for changes often: that it does so each second is seen once, here below."""


@pytest.fixture
def perform_often(perform: Perform, folder: Path, tmp_path: Path) -> Callable[[], Stage]:
    """Open a stage with the folder whose proxy looks for changes often."""
    script = tmp_path / "often.py"
    script.write_text(OFTEN)
    return lambda: perform(settings={"pool_rules": str(folder)}, extra_args=["-s", str(script)])


def reloaded(stage: Stage, times: int) -> None:
    """Wait until rules were read again for the n-th time."""
    stage.proxy.wait_for_log(rf"(?s)(?:rules were read again.*?){{{times}}}")


def test_o01_a_running_stream_finishes_under_a_reload(perform: Perform, folder: Path) -> None:
    """O01: a stream and a held request finish on the rules they began with; the next call has the new ones."""
    stage = perform(settings={"pool_rules": str(folder)})
    live, held, new = (stage.alias("pair") for _ in range(3))
    streaming, waiting = Gate(), Gate()
    stage.play(live, {"a": sse(CHAT.events[0], streaming, *CHAT.events[1:])})
    stage.play(held, {"a": json_reply(400, error("refused"), gate=waiting), "b": CHAT.answers()})
    stage.play(new, {"a": json_reply(400, error("refused")), "b": CHAT.answers()})
    with stage.connect(CHAT) as first, stage.connect(CHAT) as second:
        stream = stage.send(first, CHAT, live, stream=True)
        assert stream.read_until(b"one")
        request = stage.send(second, CHAT, held)
        waiting.wait_reached()
        write_rule(folder, "refused", label="request_invalid")
        reloaded(stage, 1)
        assert stage.call(CHAT, new).status == 400
        waiting.open()
        streaming.open()
        assert request.finish().status == 200
        finished = stream.finish()
    assert (finished.body, finished.end) == (b"".join(CHAT.events), End.CLEAN)
    assert (stage.order(held), stage.order(new)) == (["a", "b"], ["a"])


def test_o01_files_come_and_go(perform_often: Callable[[], Stage], folder: Path) -> None:
    """O01: a new file, YAML or Python, is read while the proxy runs, and one that is taken away is forgotten."""
    stage = perform_often()

    def attempts(body: object) -> list[str]:
        alias = stage.alias("sure")
        stage.play(alias, {"a": json_reply(400, body), "b": CHAT.answers()})
        stage.call(CHAT, alias)
        return stage.order(alias)

    late = {"error": {"message": "Refused.", "code": "zx-late"}}
    assert attempts(late) == ["a"]
    added = write_rule(folder, "late", label="model_unsupported")
    reloaded(stage, 1)
    assert attempts(late) == ["a", "b"]
    added.unlink()
    reloaded(stage, 2)
    assert attempts(late) == ["a"]
    replace(folder / "acme" / "seats.py", PYTHON.replace('"gone"', '"away"'))
    reloaded(stage, 3)
    assert attempts(error("seat")) == ["a"]
    assert attempts({"error": {"message": "x", "seat": {"state": "away"}}}) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [("refused.yaml", "id: acme/refused\nlabel: gone\n", 1), ("seats.py", '"""x"""\nnot python\n', 2)],
    ids=["yaml", "python"],
)
def test_o02_a_broken_file_leaves_the_last_good_rules(
    perform_often: Callable[[], Stage], folder: Path, name: str, text: str, line: int
) -> None:
    """O02: the last good rules stay, the error is shown with path and line, and once mended the file counts again."""
    stage = perform_often()
    file = folder / "acme" / name
    good = file.read_text()
    replace(file, text)
    stage.proxy.wait_for_log(rf"last good rules stay in use\s+{re.escape(str(file))}:{line}: ")
    for kind in ("refused", "seat"):
        alias = stage.alias("pair")
        stage.play(alias, {"a": json_reply(400, error(kind)), "b": CHAT.answers()})
        assert stage.call(CHAT, alias).status == 200
        assert stage.order(alias) == ["a", "b"]
    replace(file, good)
    reloaded(stage, 1)
    assert stage.proxy.log_text().count("last good rules stay in use") == 1


def test_drafts_are_logged_and_never_acted_on(perform: Perform, folder: Path) -> None:
    """F07: a draft says in the log what it would have said."""
    file = write_rule(folder, "refused")
    file.write_text(file.read_text().replace("status: stable", "status: draft"))
    stage = perform(settings={"pool_rules": str(folder)})
    alias = stage.alias("sure")
    stage.play(alias, {"a": json_reply(400, error("refused")), "b": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 400
    assert stage.order(alias) == ["a"]
    stage.proxy.wait_for_log(rf"a {alias}: the draft acme/refused would have said model_unsupported")


def test_a_rule_in_python_that_fails_is_silent(perform: Perform, folder: Path) -> None:
    """O08: an exception or an endless loop in a rule is silence, logged once, and the proxy goes on."""
    broken = PYTHON.split("def classify")[0] + textwrap.dedent("""
        def classify(reply: Reply) -> Verdict | None:
            if reply.path("error.seat.state") == "gone":
                return Verdict(Label.MODEL_UNSUPPORTED)
            if "loop" in reply.text:
                while True:
                    pass
            raise KeyError("secret words")
        """)
    (folder / "acme" / "seats.py").write_text(broken)
    stage = perform(settings={"pool_rules": str(folder)})
    for words in ("boom", "boom", "loop"):
        alias = stage.alias("sure")
        stage.play(alias, {"a": json_reply(400, {"error": {"message": words}})})
        assert stage.call(CHAT, alias).status == 400
        assert stage.order(alias) == ["a"]
    log = stage.proxy.log_text()
    assert log.count("seats.py: classify raised KeyError in line") == 1
    assert "secret words" not in log


@pytest.mark.parametrize("place", ["refused.yaml", "seats.py", ".", ".."])
def test_o09_a_folder_that_others_can_write(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, folder: Path, place: str
) -> None:
    """O09, law 12: a rule that somebody else could have written is refused; the program says what to run, and ends."""
    (folder / "acme" / place).chmod(0o777)
    pool = pool_yaml(upstream, other_upstream)
    proxy = mitmdump(pool_yaml=pool, env=ENVIRONMENT, settings={"pool_rules": str(folder)})
    proxy.wait_for_log(r"can be written by others: run `chmod go-w \S*rules")
    proxy.wait_for_log("Error logged during startup, exiting")


def test_o02_a_folder_that_others_can_write_later(perform_often: Callable[[], Stage], folder: Path) -> None:
    """O02, law 12: while the proxy runs, the last good rules stay."""
    stage = perform_often()
    (folder / "acme").chmod(0o777)
    (folder / "acme" / "refused.yaml").touch()
    stage.proxy.wait_for_log(r"last good rules stay in use\s+\S+: its folder can be written by others")
    alias = stage.alias("pair")
    stage.play(alias, {"a": json_reply(400, error("refused")), "b": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200


def test_o09_no_folder_is_picked_up_unnamed(perform: Perform) -> None:
    """O09: a folder `rules` in the working directory is not read."""
    stage = perform()
    fill(stage.proxy.directory / "rules")
    alias = stage.alias("sure")
    stage.play(alias, {"a": json_reply(400, error("refused")), "b": CHAT.answers()})
    assert stage.call(CHAT, alias, headers=[CHAT.header(TOOL)]).status == 400
    assert stage.order(alias) == ["a"]
