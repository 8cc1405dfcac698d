"""What the tool gets: a real reply with as few changes as law 6 allows, or an answer of our own."""

from __future__ import annotations

import gzip
import json
import zlib
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from tests.support.decisions import NOW, candidate
from understudy.codec.masking import SHORTEST_MASKED
from understudy.dialects import DIALECTS, Call
from understudy.failover.memory import Refusal
from understudy.failover.steps import Refuse, Release
from understudy.proxy import tool_reply
from understudy.proxy.masking_gate import is_clean_head
from understudy.proxy.tool_reply import decoded, own_answer, prepare, told_again
from understudy.replies.hold import Held, Hold, Secret
from understudy.requests.sites import Recognised
from understudy.rules.ruleset import OWN_MARK

SECRET = "sk-secret-0123456789"
BODY = b'{"error": {"message": "busy"}}'
ECHO = json.dumps({"error": {"message": f"Incorrect API key: {SECRET}."}}).encode()
MASKED = ECHO.replace(SECRET.encode(), b"<understudy:a>")


def held(secret: str = SECRET) -> Hold:
    """The hold of an attempt with this secret."""
    dialect = DIALECTS["openai"]
    endpoint = dialect.endpoint("POST", "/chat/completions")
    assert endpoint is not None
    recognised = Recognised(dialect, endpoint, "/chat/completions", "")
    return Hold(recognised, Call("gpt-5", False), candidate("a"), Secret("a", secret))


def released(
    body: bytes = BODY,
    *,
    status: int = 429,
    headers: dict[str, str] | None = None,
    step: Release | None = None,
    complete: bool = True,
    secret: str = SECRET,
) -> tuple[http.Response, bytes | None]:
    """A reply that was held and is released: its head and its body as the tool gets them.

    The same whether it was looked at when it was judged, as all are that come over the wire, or is only now.
    """
    fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    found = []
    for judged in (False, True):
        hold, response = held(secret), http.Response.make(status)
        response.headers.fields = tuple(
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()
        )
        hold.start(status, list(fields.items()))
        assert hold.data(body) is Held.MORE
        if judged:
            hold.has_clean_head = is_clean_head(response, hold.secret)
            assert len(secret) < SHORTEST_MASKED or secret not in hold.reply().text
        sent = prepare(response, body, hold, step or Release(1), complete=complete, clock=lambda: NOW)
        found.append((response, sent))
    (before, sent_before), (after, sent_after) = found
    assert (before.status_code, before.reason, before.headers) == (after.status_code, after.reason, after.headers)
    assert sent_before == sent_after
    return after, sent_after


# -- a real reply ------------------------------------------------------------------------------------------------


def test_what_was_looked_at_when_it_was_judged_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 8 at the cost of one look: but bytes that came since, or that may be compressed, are looked at."""
    looked: list[bytes] = []

    def look(content: bytes, *_: object) -> bytes:
        looked.append(content)
        return content

    monkeypatch.setattr(tool_reply, "masked_body", look)
    monkeypatch.setattr(tool_reply, "mask_head", lambda *_: pytest.fail("searched again"))
    for more, encoding, begin, again in (
        (b"", "", b"", False),
        (b" ", "", b"", True),
        (b"", "identity", b"", True),
        (b"", "", b"\x1f\x8b", True),
    ):
        looked.clear()
        hold, response = held(), http.Response.make(200, b"", {"content-encoding": encoding} if encoding else {})
        hold.start(200, [("content-type", "application/json"), ("content-encoding", encoding)])
        hold.data(begin + BODY)
        hold.has_clean_head = is_clean_head(response, hold.secret)
        hold.reply()
        hold.data(more)
        assert prepare(response, begin + BODY + more, hold, Release(1), complete=True) == begin + BODY + more
        assert bool(looked) is again


@pytest.mark.parametrize("status", [200, 302, 400, 404, 409, 413, 422, 429, 500, 529])
def test_a_real_reply_passes_as_it_is(status: int) -> None:
    """F07, W05, W06: the upstream's bytes and headers reach the tool, in their order and case."""
    headers = {"X-Request-Id": "r1", "retry-after": "60", "Retry-After-Ms": "900", "x-should-retry": "true"}
    response, body = released(status=status, headers=headers)
    assert body == BODY
    assert response.headers.fields[2:] == tuple((name.encode(), value.encode()) for name, value in headers.items())
    assert response.headers["content-length"] == str(len(BODY))


@pytest.mark.parametrize(
    ("name", "value", "capped"),
    [
        ("retry-after", "60", "60"),
        ("retry-after", "61", "60"),
        ("retry-after", "1555200", "60"),
        ("retry-after", "0", "0"),
        ("retry-after", "-1", "-1"),
        ("retry-after", "nan", "60"),
        ("retry-after", "inf", "60"),
        ("retry-after", "1e9999", "60"),
        ("retry-after", "soon", "soon"),
        ("retry-after", "", ""),
        ("retry-after", formatdate(NOW + 45, usegmt=True), formatdate(NOW + 45, usegmt=True)),
        ("retry-after", formatdate(NOW + 3600, usegmt=True), "60"),
        ("retry-after", formatdate(NOW - 3600, usegmt=True), formatdate(NOW - 3600, usegmt=True)),
        ("retry-after", "Fri, 31 Dec 99999 23:59:59 GMT", "60"),
        ("retry-after-ms", "60000", "60000"),
        ("retry-after-ms", "60001", "60000"),
    ],
)
def test_a_retry_after_is_capped_at_a_minute(name: str, value: str, capped: str) -> None:
    """L03, W03: tools sleep through a longer one without a word; what is no longer stays as it was."""
    response, body = released(headers={name: value})
    assert (response.headers[name], body) == (capped, BODY)


def test_one_long_retry_after_among_several_is_enough() -> None:
    response, _ = released()
    response.headers.set_all("retry-after", ["5", "7200"])
    prepare(response, BODY, held(), Release(1), complete=True, clock=lambda: NOW)
    assert response.headers.get_all("retry-after") == ["60"]


def test_a_retry_after_of_a_success_is_nobodys_business() -> None:
    assert released(status=200, headers={"retry-after": "9999"})[0].headers["retry-after"] == "9999"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60))
def test_no_retry_after_makes_the_release_fail(value: str) -> None:
    """L03: hostile values: the reply goes out all the same."""
    assert released(headers={"retry-after": value.strip()})[1] == BODY


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (Release(1), None),
        (Release(1, final=True, retry=True), None),
        (Release(1, final=True, retry=False), "false"),
        (Release(1, final=False, retry=False), None),
    ],
)
def test_the_tool_is_told_when_another_round_cannot_help(step: Release, told: str | None) -> None:
    """W05: law 6: `x-should-retry: false`, and only then; an only candidate's error is left alone (W06)."""
    assert released(step=step)[0].headers.get("x-should-retry") == told
    assert "x-should-retry" not in released(step=step, status=200)[0].headers


# -- echoes ------------------------------------------------------------------------------------------------------


def test_an_echo_in_the_body_is_masked() -> None:
    """R06: the tool sees the placeholder, and the length says what is sent."""
    response, body = released(ECHO, status=401)
    assert body == MASKED
    assert response.headers["content-length"] == str(len(MASKED))


def test_an_echo_in_a_header_is_masked() -> None:
    """R06: wherever it stands, also percent-encoded."""
    headers = {"x-debug": f"Bearer {SECRET}", "location": f"https://elsewhere.example/?key={SECRET}"}
    response, body = released(headers=headers)
    assert body == BODY
    assert response.headers["x-debug"] == "Bearer <understudy:a>"
    assert SECRET not in str(response.headers.fields)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_an_echo_in_a_compressed_body_is_masked(encoding: str, pack: object) -> None:
    """R06: it is then sent as it reads, with the framing that this needs."""
    assert callable(pack)
    response, body = released(pack(ECHO), headers={"content-encoding": encoding})
    assert body == MASKED
    assert "content-encoding" not in response.headers
    assert response.headers["content-length"] == str(len(MASKED))


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_without_an_echo_stays_compressed(encoding: str, pack: object) -> None:
    """S08: released as it came, byte for byte."""
    assert callable(pack)
    packed = pack(BODY)
    response, body = released(packed, headers={"content-encoding": encoding})
    assert body == packed
    assert response.headers["content-encoding"] == encoding
    assert response.headers["content-length"] == str(len(packed))


@pytest.mark.parametrize(("said", "told"), [(BODY, BODY), (ECHO, MASKED)], ids=["plain", "echo"])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_what_others_are_told_is_decoded_and_masked(encoding: str, said: bytes, told: bytes) -> None:
    """F17, R06: a refusal is remembered as it reads, and without the secret, however it came."""
    hold = held()
    packed = gzip.compress(said) if encoding else said
    hold.start(404, [("content-type", "application/json"), ("content-encoding", encoding)])
    hold.data(packed)
    fit = prepare(http.Response.make(404), packed, hold, Release(1), complete=True)
    assert fit is not None
    assert decoded(fit, hold) == told


def test_r06_head_and_body_are_masked_together() -> None:
    """R06, H03: the length is that of the masked body, also where the head was masked as well."""
    response, body = released(ECHO, headers={"x-received": f"Bearer {SECRET}"})
    assert body == MASKED
    assert response.headers["content-length"] == str(len(MASKED))
    assert response.headers["x-received"] == "Bearer <understudy:a>"


def test_a_body_that_is_still_coming_loses_its_length_with_the_echo() -> None:
    """R06: what is to come has the length that it has; without an echo nothing changes."""
    response, body = released(ECHO, complete=False)
    assert body == MASKED
    assert "content-length" not in response.headers
    assert released(BODY, complete=False)[0].headers["content-length"] == str(len(BODY))


def test_an_echo_in_a_compressed_stream_that_is_still_coming_does_not_go_out() -> None:
    """R06: it can neither be masked nor passed on."""
    assert released(gzip.compress(ECHO), headers={"content-encoding": "gzip"}, complete=False)[1] is None


def test_a_reply_without_a_length_gets_none() -> None:
    """R06: a chunked reply stays one."""
    response = http.Response.make(500)
    response.headers = http.Headers(transfer_encoding="chunked")
    assert prepare(response, ECHO, held(), Release(1), complete=True, clock=lambda: NOW) == MASKED
    assert dict(response.headers) == {"transfer-encoding": "chunked"}


def test_a_short_secret_does_not_ruin_a_text() -> None:
    """R06: `none` and its like are placeholders that local servers are given, not secrets."""
    assert released(b'{"error": "none of these"}', secret="none")[1] == b'{"error": "none of these"}'


# -- our own answer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(("status", "retry_after"), [(429, 20), (503, 1), (400, None)])
def test_our_own_answer_is_in_the_tools_dialect(name: str, status: int, retry_after: int | None) -> None:
    """W03: a real status, the reasons in an error of the dialect's shape, and when to come back or not at all."""
    response = own_answer(DIALECTS[name], Refuse(status, "understudy: no\n- a m1: why", retry_after))
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers.get("retry-after") == (None if retry_after is None else str(retry_after))
    assert response.headers.get("x-should-retry") == ("false" if retry_after is None else None)
    document = json.loads(response.content or b"")
    error = document.get("error", document)
    assert (error if isinstance(error, str) else error["message"]) == "understudy: no\n- a m1: why"
    assert response.headers["content-length"] == str(len(response.content or b""))
    assert OWN_MARK in response.headers


@pytest.mark.parametrize(("status", "word"), [(429, None), (503, None), (400, "false"), (404, "false")])
def test_only_what_no_retry_cures_says_so(status: int, word: str | None) -> None:
    """W09, A10: without a time to come back a 429 or 503 leaves the tool to its own schedule."""
    answer = own_answer(DIALECTS["openai"], Refuse(status, "why"))
    assert answer.headers.get("x-should-retry") == word
    assert "retry-after" not in answer.headers


def test_an_answer_about_broken_connections_is_no_overload() -> None:
    """A10: in the dialect of a tool that shows its person nothing of an overload."""
    broken = own_answer(DIALECTS["anthropic"], Refuse(503, "closed", broken=True))
    assert json.loads(broken.content or b"")["error"] == {"type": "api_error", "message": "closed"}
    full = own_answer(DIALECTS["anthropic"], Refuse(503, "full"))
    assert json.loads(full.content or b"")["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize(("status", "word"), [(404, "false"), (200, None)])
def test_what_is_told_again_is_marked_and_as_it_was(status: int, word: str | None) -> None:
    """F17, A10: body and type of a refusal, and of a stream that ended in an error; the latter may be tried again."""
    answer = told_again(Refusal(status, "text/event-stream", b"data: 1\n\n"))
    assert (answer.status_code, answer.content) == (status, b"data: 1\n\n")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers[OWN_MARK] == "answer"
    assert answer.headers.get("x-should-retry") == word
