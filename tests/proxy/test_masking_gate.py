"""The gate by itself: log records, heads and bodies (H03)."""

from __future__ import annotations

import gzip
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
from mitmproxy import http

from understudy.proxy.masking_gate import (
    NAME_MASKED,
    NOT_SHOWN,
    NOT_WRITTEN,
    SEEN_LIMIT,
    MaskingGate,
    mask_head,
    masked_body,
    show_body,
)
from understudy.replies import Secret

VALUE = "sk-secret-0123456789"
SECRET = Secret("work", VALUE, ("sk-Second-0123456789",))
SHOWN, CLIENT = "<understudy:work>", "<understudy:client>"


class Lines(logging.Handler):
    """Remembers what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """One more line, with its traceback."""
        self.found.append(self.format(record))


@pytest.fixture
def gate() -> MaskingGate:
    made = MaskingGate()
    made.use({VALUE: "work"})
    return made


@pytest.fixture
def lines() -> Iterator[Lines]:
    """A handler on the root logger, as mitmproxy has them."""
    handler = Lines()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_h03_log_lines_of_everybody_are_masked_while_the_gate_is_open(gate: MaskingGate, lines: Lines) -> None:
    """H03: whichever logger, arguments and tracebacks included; handlers may be there before or come later."""
    before = logging.getLogRecordFactory()
    close = gate.open()
    try:
        logging.getLogger("mitmproxy.proxy.server").error("Unexpected data from server: %r", VALUE.encode())
        try:
            raise ValueError(f"cannot read {VALUE}")
        except ValueError:
            logging.getLogger("understudy").exception("it failed")
        logging.getLogger("any").error("100 %% of %s", "nothing")
    finally:
        close()
    unexpected, failed, other = lines.found
    assert unexpected == f"Unexpected data from server: b'{SHOWN}'"
    assert VALUE not in failed
    assert f"ValueError: cannot read {SHOWN}" in failed
    assert "Traceback" in failed
    assert other == "100 % of nothing"
    assert logging.getLogRecordFactory() is before
    logging.getLogger("any").error(VALUE)
    assert lines.found[-1] == VALUE


def test_h03_printed_tracebacks_are_masked_while_the_gate_is_open(
    gate: MaskingGate, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """H03: of an exception that ends the program, a thread, or that cannot be raised; others look as they always do."""
    ignored: list[object] = []
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, lambda *args: ignored.append(args))
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook

    class Leaks:
        def __del__(self) -> None:
            raise ValueError(f"ignored {VALUE}")

    def fail(word: str) -> None:
        raise ValueError(word)

    def in_a_thread(word: str) -> None:
        thread = threading.Thread(target=fail, args=(word,))
        thread.start()
        thread.join()

    close = gate.open()
    try:
        error = ValueError(f"ended {VALUE}")
        sys.excepthook(ValueError, error, None)
        in_a_thread(f"threaded {VALUE}")
        Leaks()
        assert ignored == []
        in_a_thread("harmless")
        assert len(ignored) == 1
    finally:
        close()
    printed = capsys.readouterr().err
    for word in ("ended", "threaded", "ignored"):
        assert f"ValueError: {word} {SHOWN}" in printed
    assert VALUE not in printed
    assert (sys.excepthook, sys.unraisablehook, threading.excepthook) == hooks


def test_what_cannot_be_printed_is_not_printed(
    gate: MaskingGate, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would print its parts; and there may be nowhere to print to."""

    class Unwilling(Exception):
        def __str__(self) -> str:
            return VALUE

    monkeypatch.setattr("understudy.proxy.masking_gate._printed", lambda error: str(1 / 0))
    close = gate.open()
    try:
        sys.excepthook(Unwilling, Unwilling(), None)
        assert capsys.readouterr().err == f"{NOT_WRITTEN}\n"
        monkeypatch.setattr(sys, "stderr", None)
        sys.excepthook(Unwilling, Unwilling(), None)
    finally:
        close()


def test_a_factory_of_somebody_else_on_top_stays(gate: MaskingGate, lines: Lines) -> None:
    """The gate masks no more once it is closed, and takes nobody else's away."""
    before = logging.getLogRecordFactory()
    close = gate.open()
    ours = logging.getLogRecordFactory()

    def theirs(*args: object, **kwargs: object) -> logging.LogRecord:
        return ours(*args, **kwargs)

    logging.setLogRecordFactory(theirs)
    try:
        close()
        assert logging.getLogRecordFactory() is theirs
        logging.getLogger("any").error(VALUE)
        assert lines.found == [VALUE]
    finally:
        logging.setLogRecordFactory(before)


def test_a_line_that_cannot_be_put_together_is_not_written(gate: MaskingGate, lines: Lines) -> None:
    """Python would print its arguments."""
    close = gate.open()
    try:
        logging.getLogger("any").error("%d", VALUE)
    finally:
        close()
    assert lines.found == [NOT_WRITTEN]


def test_secrets_are_known_until_others_have_come(gate: MaskingGate) -> None:
    """A pool's are always known, and those of the pool before while calls may still be under way with them."""
    gate.use({"sk-of-the-next-pool-01": "next"})
    assert gate.mask(f"{VALUE} sk-of-the-next-pool-01") == f"{SHOWN} <understudy:next>"
    gate.learn("client", "short", *(f"sk-tool-{number:012}" for number in range(SEEN_LIMIT)))
    assert gate.mask(VALUE) == VALUE
    assert gate.mask(f"sk-tool-{SEEN_LIMIT - 1:012} short") == "<understudy:client> short"
    assert gate.mask("sk-of-the-next-pool-01") == "<understudy:next>"


def test_secrets_that_come_and_go_are_masked_for_as_long_as_they_are_known(gate: MaskingGate) -> None:
    """H03: however many have come before, and the gate does not grow with them."""
    most = 0
    for number in range(3 * SEEN_LIMIT):
        secret = f"sk-tool-{number:012}"
        gate.learn("client", secret)
        gate.learn("client", secret)
        assert gate.mask(secret.encode().hex()) == "<understudy:client>"
        most = max(most, len(gate._signs))
    gate.use({"sk-of-the-next-pool-01": "next"})
    first = 2 * SEEN_LIMIT + 2  # the secret of the pool before is one of those
    assert gate.mask(f"{VALUE} sk-tool-{first:012} sk-of-the-next-pool-01") == f"{SHOWN} {CLIENT} <understudy:next>"
    assert len(gate._signs) < most


def reply(content: bytes = b"", **fields: str) -> http.Response:
    """A reply with these header fields."""
    return http.Response.make(400, content, {name.replace("_", "-"): value for name, value in fields.items()})


def test_h03_reason_names_values_and_trailers_of_a_reply() -> None:
    """H03: a header name that is the secret, in lower case as HTTP/2 has it, gets a name that a header can have."""
    response = reply(x_key=f"Bearer {VALUE}")
    response.data.reason = f"bad key {VALUE}".encode()
    response.headers[SECRET.more[0].lower()] = "1"
    response.trailers = http.Headers([(b"x-end", VALUE.encode())])
    assert mask_head(response, SECRET)
    assert response.reason == f"bad key {SHOWN}"
    assert response.headers["x-key"] == f"Bearer {SHOWN}"
    assert response.headers[NAME_MASKED.decode()] == "1"
    assert response.trailers["x-end"] == SHOWN
    clean = response.headers
    assert not mask_head(response, SECRET)
    assert response.headers is clean


def test_h03_bodies_are_masked_decoded_and_as_they_came() -> None:
    """H03: what is fine is the very same object, compressed or not."""
    text = f"bad key {VALUE}".encode()
    masked = f"bad key {SHOWN}".encode()
    fine = gzip.compress(b"fine")
    assert masked_body(fine, "gzip", SECRET) is fine
    assert masked_body(gzip.compress(text), "gzip", SECRET) == masked
    assert masked_body(gzip.compress(gzip.compress(text)), "gzip, gzip", SECRET) == masked
    assert masked_body(gzip.compress(text), "br", SECRET) == masked
    assert masked_body(gzip.compress(text), "", SECRET) == masked
    assert masked_body(text, "odd", SECRET) == masked
    assert masked_body(fine + text, "gzip", SECRET) == b"fine"


def test_h03_what_cannot_be_decoded_is_not_shown() -> None:
    """H03: nor what is larger than a flow shows."""
    for content in (b"anything", bytes([0x1F, 0x8B, 1, 2, 3])):
        response = reply()
        response.headers["content-encoding"], response.data.content = "odd", content
        show_body(response, SECRET)
        assert response.raw_content == NOT_SHOWN
        assert "content-encoding" not in response.headers
    response = reply(b"fine", content_encoding="gzip")
    show_body(response, SECRET)
    assert response.content == b"fine"
    assert response.headers["content-encoding"] == "gzip"
