"""Routes with several upstream models, and the name of the model in each place where it can stand."""

from __future__ import annotations

import gzip
import json

import pytest

from .behaviours import Seen
from .conftest import Perform
from .stage import CHAT, GEMINI, TOOL, Stage, refusal, whole

ROUTES = """
  two: [{credential: a, model: m1}, {credential: a, model: m2}]
  pools: [{credential: a, model: p1}, {credential: a, model: p2}, {credential: b, model: p1}]
  round: {candidates: [{credential: a, model: r1}, {credential: a, model: r2}, {credential: a, model: r3}],
          strategy: round_robin}
  speech: [{credential: a, model: whisper-9}]
  packed: [{credential: a, model: unpacked}]
  gemini-old: [{credential: gemini-a, model: gemini-new}]
"""


@pytest.fixture
def stage(perform: Perform) -> Stage:
    """A stage with routes over several models."""
    return perform(routes=ROUTES)


def models(stage: Stage) -> list[tuple[str, object]]:
    """The last letters of the credential and the model of each request, in order."""
    return [(one.credential[8:9], one.json["model"]) for one in stage.main.seen]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_f03_one_credential_two_models(stage: Stage, stream: bool) -> None:
    """F03: M1 refuses, M2 answers; then M2, M2, M2, and M2's success never revives M1."""
    stage.play("m1", {"a": refusal(CHAT, "m1")})
    stage.play("m2", {"a": whole(CHAT, stream=stream)})
    for _ in range(4):
        assert stage.call(CHAT, "two", stream=stream).status == 200
    assert models(stage) == [("a", "m1"), ("a", "m2"), ("a", "m2"), ("a", "m2"), ("a", "m2")]


def test_f04_all_members_of_the_first_credential_are_suspended(stage: Stage) -> None:
    """F04: the second credential answers, and the first costs no attempt."""
    stage.play("p1", {"a": refusal(CHAT, "p1"), "b": CHAT.answers()})
    stage.play("p2", {"a": refusal(CHAT, "p2")})
    assert stage.call(CHAT, "pools").status == 200
    stage.main.forget()
    assert stage.call(CHAT, "pools").status == 200
    assert models(stage) == [("b", "p1")]


def test_f05_round_robin_passes_over_a_suspended_model(stage: Stage) -> None:
    """F05: with M2 suspended: M1, M3, M1, M3."""
    for model in ("r1", "r3"):
        stage.play(model, {"a": CHAT.answers()})
    stage.play("r2", {"a": refusal(CHAT, "r2")})
    assert [stage.call(CHAT, "round").status for _ in range(2)] == [200, 200]
    assert models(stage) == [("a", "r1"), ("a", "r2"), ("a", "r3")]
    stage.main.forget()
    for _ in range(4):
        assert stage.call(CHAT, "round").status == 200
    assert models(stage) == [("a", "r1"), ("a", "r3"), ("a", "r1"), ("a", "r3")]


def test_r02_model_in_the_path(stage: Stage) -> None:
    """R02: Gemini's model stands in the path; the query survives."""
    stage.play("gemini-new", {"gemini-a": GEMINI.streams()})
    path = "/v1beta/models/gemini-old:streamGenerateContent?alt=sse"
    assert stage.call(GEMINI, "gemini-old", stream=True, path=path).status == 200
    assert [one.path for one in stage.main.seen] == [path.replace("gemini-old", "gemini-new")]


def test_r02_model_in_a_form(stage: Stage) -> None:
    """R02: in multipart/form-data only the model field changes; the audio beside it stays as it is."""
    edge = "----edge"
    form = (
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        f"Content-Type: audio/wav\r\n\r\n\x00speech\xff\r\n--{edge}\r\n"
        f'Content-Disposition: form-data; name="model"\r\n\r\nspeech\r\n--{edge}--\r\n'
    ).encode("latin-1")
    stage.play("whisper-9", {"a": CHAT.answers()})
    headers = [CHAT.header(TOOL), ("content-type", f"multipart/form-data; boundary={edge}")]
    with stage.connect(CHAT) as connection:
        assert connection.request("POST", "/v1/audio/transcriptions", headers, form).status == 200
    (seen,) = stage.main.seen
    assert seen.body == form.replace(b"\r\n\r\nspeech\r\n", b"\r\n\r\nwhisper-9\r\n")
    assert seen.header("content-length") == str(len(seen.body))


def test_r02_compressed_body(stage: Stage) -> None:
    """R02: a compressed body is decoded, rewritten, and sent with the headers that fit what is sent."""
    path, asked = CHAT.ask("packed", False)
    stage.main.on(_unpacked, CHAT.answers())
    headers = [CHAT.header(TOOL), ("content-type", "application/json"), ("content-encoding", "gzip")]
    with stage.connect(CHAT) as connection:
        assert connection.request("POST", path, headers, gzip.compress(json.dumps(asked).encode())).status == 200
    (seen,) = stage.main.seen
    body = gzip.decompress(seen.body) if seen.header("content-encoding") == "gzip" else seen.body
    assert json.loads(body) == {**asked, "model": "unpacked"}
    assert seen.header("content-length") == str(len(seen.body))


def _unpacked(seen: Seen) -> bool:
    return b"unpacked" in seen.body or seen.header("content-encoding") == "gzip"
