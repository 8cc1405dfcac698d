"""Fallback and suspension through a real mitmdump over TLS: promises F, X and S."""

from __future__ import annotations

import json

import pytest

from .behaviours import Behaviour, Break, Gate, drop_after_headers, encoded, json_reply, raw, sse
from .client import End
from .stage import APIS, CHAT, GEMINI, MESSAGES, RESPONSES, TOOL, Api, Stage, data, filled, refusal, text, whole

every_api = pytest.mark.parametrize("api", APIS.values(), ids=APIS)
both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])


def good(api: Api, response_body: bytes, *, stream: bool) -> bool:
    """Whether the tool got exactly the good answer."""
    expected = b"".join((*api.lifecycle, *api.events)) if stream else json.dumps(api.answer).encode()
    return response_body == expected


@every_api
@both_forms
@both_versions
def test_f01_a_refuses_b_answers(stage: Stage, api: Api, stream: bool, http2: bool) -> None:
    """F01: the tool sees only B's 200, and the next request goes to B at once."""
    alias = stage.alias()
    stage.play(alias, {api.first: refusal(api, alias), api.second: whole(api, stream=stream)})
    for _ in range(2):
        response = stage.call(api, alias, stream=stream, http2=http2)
        assert response.status == 200
        assert response.end is End.CLEAN
        assert good(api, response.body, stream=stream)
    assert stage.order(alias) == [api.first, api.second, api.second]


@pytest.mark.parametrize("status", [422, 404, 403])
@every_api
@both_forms
def test_f02_other_statuses(stage: Stage, api: Api, stream: bool, status: int) -> None:
    """F02: the same with 422, 404 and 403, plain and streamed."""
    alias = stage.alias()
    stage.play(alias, {api.first: refusal(api, alias, status), api.second: whole(api, stream=stream)})
    assert stage.call(api, alias, stream=stream).status == 200
    assert stage.call(api, alias, stream=stream).status == 200
    assert stage.order(alias) == [api.first, api.second, api.second]


@pytest.mark.parametrize("status", [400, 404, 403, 422])
@pytest.mark.parametrize("api", [MESSAGES, GEMINI], ids=["messages", "gemini"])
def test_f02_x03_refusal_on_token_count(stage: Stage, api: Api, status: int) -> None:
    """F02, X03: an explicit refusal of the model on a token count is replayed and suspends."""
    alias = stage.alias()
    path = "/v1/messages/count_tokens" if api is MESSAGES else f"/v1beta/models/{alias}:countTokens"
    stage.play(alias, {api.first: refusal(api, alias, status), api.second: json_reply(200, {"input_tokens": 3})})
    assert stage.call(api, alias, path=path).json == {"input_tokens": 3}
    assert stage.order(alias) == [api.first, api.second]
    stage.play(alias, {api.second: api.answers()})
    assert stage.call(api, alias).status == 200
    assert stage.order(alias) == [api.first, api.second, api.second]


def test_x01_a_count_does_not_resume(stage: Stage) -> None:
    """X01: a suspended candidate is not resumed by a successful count; the count goes where generate would (X04)."""
    alias = stage.alias("pair")
    alias = stage.alias()
    path = "/v1/messages/count_tokens"
    stage.play(alias, {"claude-a": refusal(MESSAGES, alias), "claude-b": MESSAGES.answers()})
    assert stage.call(MESSAGES, alias).status == 200
    stage.play(
        alias, {"claude-a": json_reply(200, {"input_tokens": 1}), "claude-b": json_reply(200, {"input_tokens": 2})}
    )
    assert stage.call(MESSAGES, alias, path=path).json == {"input_tokens": 2}
    stage.play(alias, {"claude-a": MESSAGES.answers(), "claude-b": MESSAGES.answers()})
    assert stage.call(MESSAGES, alias).status == 200
    assert stage.order(alias) == ["claude-a", "claude-b", "claude-b", "claude-b"]


@pytest.mark.parametrize(
    "failure",
    [text(404, b"404 page not found", "text/plain"), json_reply(500, {"error": {"message": "internal"}})],
    ids=["404", "500"],
)
def test_x02_generic_errors_on_count_suspend_nothing(stage: Stage, failure: Behaviour) -> None:
    """X02: a generic 404 or 500 on a count suspends nothing."""
    alias = stage.alias()
    stage.play(alias, {"claude-a": failure, "claude-b": failure})
    stage.call(MESSAGES, alias, path="/v1/messages/count_tokens")
    before = len(stage.order(alias))
    stage.play(alias, {"claude-a": MESSAGES.answers()})
    assert stage.call(MESSAGES, alias).status == 200
    assert stage.order(alias)[before:] == ["claude-a"]


def test_f06_another_alias_of_the_same_upstream_model(stage: Stage) -> None:
    """F06: suspended for one alias is suspended for another that means the same upstream model, and only for it."""
    model = stage.alias()
    stage.play(model, {"a": refusal(CHAT, model), "b": [CHAT.answers(), RESPONSES.answers()]})
    assert stage.call(CHAT, model).status == 200
    assert stage.call(RESPONSES, model).status == 200
    assert stage.order(model) == ["a", "b", "b"]
    other = stage.alias()
    stage.play(other, {"a": CHAT.answers()})
    assert stage.call(CHAT, other).status == 200
    assert stage.order(other) == ["a"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "malformed payload", "type": "invalid_request_error"}}),
        (422, {"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "value_error.missing"}]}),
        (409, {"error": {"message": "Conflict", "type": "conflict"}}),
        (413, {"error": {"message": "Request too large", "type": "request_too_large"}}),
    ],
)
@both_forms
def test_f07_faults_of_the_request(stage: Stage, status: int, body: object, stream: bool) -> None:
    """F07: one attempt, the upstream's bytes and headers reach the tool, nothing is suspended.

    A single candidate, where no words say that it is the request's fault; with others, that is J02.
    """
    alias = stage.alias("solo" if status == 409 else "model")
    stage.play(alias, {"a": json_reply(status, body, [("x-request-id", "r-77")]), "b": CHAT.answers()})
    response = stage.call(CHAT, alias, stream=stream)
    assert (response.status, response.body) == (status, json.dumps(body).encode())
    assert response.header("x-request-id") == "r-77"
    assert response.header("x-should-retry") == ""
    stage.play(alias, {"a": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200
    assert stage.order(alias) == ["a", "a"]


def test_f08_echoed_wording_is_no_refusal(stage: Stage) -> None:
    """F08: the refusal's wording inside an echoed prompt or an assistant's text is no refusal."""
    alias = stage.alias()
    said = f"The model `{alias}` does not exist or you do not have access to it."
    answer = {"choices": [{"message": {"role": "assistant", "content": said}}], "prompt": said}
    complaint = {"error": {"message": "Invalid value for 'messages'", "type": "invalid_request_error"}, "input": said}
    stage.play(alias, {"a": [json_reply(200, answer), json_reply(400, complaint), CHAT.answers()]})
    assert stage.call(CHAT, alias).json == answer
    assert stage.call(CHAT, alias).json == complaint
    assert stage.call(CHAT, alias).status == 200
    assert stage.order(alias) == ["a", "a", "a"]


@pytest.mark.parametrize(
    "reply",
    [
        text(404, b"<html><head><title>404 Not Found</title></head><body>nginx</body></html>"),
        text(404, b"404 page not found", "text/plain"),
        json_reply(404, {"detail": "Not Found"}),
        raw(
            404,
            [("content-type", "application/problem+json")],
            b'{"type":"about:blank","title":"Not Found","status":404}',
        ),
        raw(404),
    ],
    ids=["html", "text", "fastapi", "problem", "empty"],
)
@every_api
def test_f09_404_of_a_wrong_path(stage: Stage, api: Api, reply: Behaviour) -> None:
    """F09: released, nothing suspended, on every endpoint; another one is asked once in an hour (J02)."""
    alias = stage.alias()
    stage.play(alias, {api.first: [reply, api.answers()], api.second: reply})
    assert stage.call(api, alias).status == 404
    assert stage.call(api, alias).status == 200
    order = stage.order(alias)
    assert order in ([api.first, api.first], [api.first, api.second, api.first])


def test_f10_capability_goes_to_another_model_only(stage: Stage) -> None:
    """F10: a feature that the model does not support: another upstream model is tried, nothing is suspended."""
    message = "Unsupported parameter: 'temperature' is not supported with this model."
    error = {"message": message, "type": "invalid_request_error", "param": "temperature"}
    body = {"error": {**error, "code": "unsupported_parameter"}}
    alias = stage.alias("sub")
    stage.play(alias, {"a": json_reply(400, body)})
    stage.play("substitute", {"b": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200
    assert stage.order(alias) == ["a"]
    stage.play(alias, {"a": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200
    assert stage.order(alias) == ["a", "a"]

    same = stage.alias("pair")
    stage.play(same, {"a": json_reply(400, body), "b": CHAT.answers()})
    response = stage.call(CHAT, same)
    assert (response.status, response.json) == (400, body)
    assert stage.order(same) == ["a"]


def too_long(window: int) -> dict[str, object]:
    """What a model says to a conversation that is longer than its window."""
    message = f"This model's maximum context length is {window} tokens. However, your messages resulted in more."
    return {"error": {"message": message, "type": "invalid_request_error", "code": "context_length_exceeded"}}


@both_forms
def test_l14_a_longer_context_is_another_models(stage: Stage, stream: bool) -> None:
    """L14: only a candidate with another upstream model is tried, and nothing is suspended."""
    alias, same = stage.alias("sub"), stage.alias("pair")
    before = len(stage.order("substitute"))
    stage.play("substitute", {"b": whole(CHAT, stream=stream)})
    stage.play(alias, {"a": json_reply(400, too_long(8192))})
    for _ in range(2):
        assert good(CHAT, stage.call(CHAT, alias, stream=stream).body, stream=stream)
    assert stage.order(alias) == ["a", "a"]
    assert stage.order("substitute")[before:] == ["b", "b"]

    stage.play(same, {"a": json_reply(400, too_long(8192)), "b": whole(CHAT, stream=stream)})
    for _ in range(2):
        response = stage.call(CHAT, same, stream=stream)
        assert (response.status, response.json) == (400, too_long(8192))
    assert stage.order(same) == ["a", "a"]


@both_forms
def test_l14_too_long_for_every_model(stage: Stage, stream: bool) -> None:
    """L14: all refuse: the first error, which another round cannot cure; and still nothing is suspended."""
    alias = stage.alias("sub")
    before = len(stage.order("substitute"))
    first = json.dumps(too_long(8192)).encode() + b"\n"
    stage.play(alias, {"a": raw(400, [("content-type", "application/json")], first)})
    stage.play("substitute", {"b": json_reply(400, too_long(4096))})
    for _ in range(2):
        response = stage.call(CHAT, alias, stream=stream)
        assert (response.status, response.body) == (400, first)
        assert response.header("x-should-retry") == "false"
    assert stage.order(alias) == ["a", "a"]
    assert stage.order("substitute")[before:] == ["b", "b"]


def test_f11_200_with_an_error_object(stage: Stage) -> None:
    """F11: a 200 whose JSON is a top-level error is judged like an error."""
    alias = stage.alias()
    stage.play(alias, {"a": json_reply(200, filled(CHAT.refusal[1], alias)), "b": CHAT.answers()})
    assert stage.call(CHAT, alias).json == CHAT.answer
    assert stage.order(alias) == ["a", "b"]


def test_f12_every_candidate_refuses(stage: Stage) -> None:
    """F12: the first refusal reaches the tool, which is told that another round cannot help."""
    alias = stage.alias("pair")
    first = json.dumps(filled(CHAT.refusal[1], alias)).encode()
    second = {
        "error": {"message": f"model {alias} not found", "type": "invalid_request_error", "code": "model_not_found"}
    }
    stage.play(alias, {"a": raw(404, [("content-type", "application/json")], first), "b": json_reply(404, second)})
    response = stage.call(CHAT, alias)
    assert (response.status, response.body) == (404, first)
    assert response.header("x-should-retry") == "false"
    assert stage.order(alias) == ["a", "b"]


@every_api
@both_versions
def test_s02_error_inside_a_200_stream(stage: Stage, api: Api, http2: bool) -> None:
    """S02: an error event before output, after lifecycle events: B answers, and the tool sees nothing of A."""
    alias = stage.alias()
    stage.play(alias, {api.first: api.fails_in_stream(), api.second: api.streams()})
    response = stage.call(api, alias, stream=True, http2=http2)
    assert response.status == 200
    assert good(api, response.body, stream=True)
    assert stage.order(alias) == [api.first, api.first, api.second]


def test_s02_error_in_a_json_array_stream(stage: Stage) -> None:
    """S02: Gemini without alt=sse streams one growing JSON array."""
    alias = stage.alias()
    path = f"/v1beta/models/{alias}:streamGenerateContent"
    error = {"error": {"code": 404, "message": f"models/{alias} is not found", "status": "NOT_FOUND"}}
    kind = [("content-type", "application/json")]
    good_array = [b'[{"candidates": [{"content": {"parts": [{"text": "one"}]}}]}\n', b",\r\n", b'{"x": 1}]']
    stage.play(alias, {"gemini-a": raw(200, kind, json.dumps([error]).encode())})
    stage.play(alias, {"gemini-b": raw(200, kind, b"".join(good_array))})
    assert stage.call(GEMINI, alias, stream=True, path=path).body == b"".join(good_array)
    assert stage.order(alias) == ["gemini-a", "gemini-b"]


@both_versions
def test_s01_the_second_stream_arrives_live(stage: Stage, http2: bool) -> None:
    """S01, S09: B's first event reaches the tool while B is still speaking, with B's headers."""
    alias, gate = stage.alias(), Gate()
    stage.play(
        alias, {"a": refusal(CHAT, alias), "b": sse(CHAT.events[0], gate, *CHAT.events[1:], headers=[("x-who", "b")])}
    )
    with stage.connect(CHAT, http2=http2) as connection:
        path, body = CHAT.ask(alias, True)
        stream = connection.send("POST", path, [CHAT.header(TOOL)], json.dumps(body).encode())
        assert stream.response.header("x-who") == "b"
        assert stream.read_until(b"one")
        gate.open()
        assert stream.finish().body == b"".join(CHAT.events)
    assert stream.end is End.CLEAN


@both_versions
def test_s03_an_error_after_output_is_passed_on(stage: Stage, http2: bool) -> None:
    """S03: no replay after output; the candidate is remembered, so that the next call goes to B."""
    alias = stage.alias()
    parts = (CHAT.events[0], CHAT.error_event)
    stage.play(alias, {"a": sse(*parts), "b": CHAT.streams()})
    assert stage.call(CHAT, alias, stream=True, http2=http2).body == b"".join(parts)
    assert stage.call(CHAT, alias, stream=True, http2=http2).status == 200
    assert stage.order(alias) == ["a", "b"]


@both_versions
@pytest.mark.parametrize("how", [Break.CLOSE, Break.STREAM], ids=["close", "reset"])
def test_s04_a_cut_is_seen_as_a_cut(stage: Stage, http2: bool, how: Break) -> None:
    """S04: a stream that is cut after output is cut for the tool too, never a clean end."""
    alias = stage.alias()
    stage.play(alias, {"a": sse(CHAT.events[0], ending=how), "b": CHAT.streams()})
    response = stage.call(CHAT, alias, stream=True, http2=http2)
    assert response.body == CHAT.events[0]
    assert response.end is End.CUT
    assert stage.call(CHAT, alias, stream=True, http2=http2).end is End.CLEAN
    assert stage.order(alias) == ["a", "b"]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_s05_events_split_at_any_byte(stage: Stage, newline: bytes) -> None:
    """S05: split at every byte, CRLF or LF, comments, several data lines: same verdict, same bytes out."""
    alias = stage.alias()
    lines = [": c", "event: message", 'data: {"error": {"message": "It is overloaded",', 'data: "code": "overloaded"}}']
    event = "\n".join([*lines, "", ""]).encode().replace(b"\n", newline)
    stage.play(alias, {"a": sse(*(event[at : at + 1] for at in range(len(event))))})
    output = b"".join(CHAT.events).replace(b"\n", newline)
    stage.play(alias, {"b": sse(*(output[at : at + 1] for at in range(len(output))))})
    assert stage.call(CHAT, alias, stream=True).body == output
    assert stage.order(alias) == ["a", "a", "b"]


@pytest.mark.parametrize(
    "empty",
    [sse(), drop_after_headers(200, [("content-type", "text/event-stream")])],
    ids=["empty", "closed"],
)
@both_versions
def test_s06_empty_streams(stage: Stage, empty: Behaviour, http2: bool) -> None:
    """S06: an empty stream or an immediate close: B answers."""
    alias = stage.alias()
    stage.play(alias, {"a": empty, "b": CHAT.streams()})
    assert good(CHAT, stage.call(CHAT, alias, stream=True, http2=http2).body, stream=True)
    assert stage.order(alias)[-1] == "b"


def test_s07_a_lifecycle_flood_is_released(stage: Stage) -> None:
    """S07: a flood of lifecycle events ends the hold at its bounds and is released as it is."""
    alias = stage.alias()
    flood = CHAT.lifecycle[1] * 100
    stage.play(alias, {"a": sse(flood, CHAT.error_event), "b": CHAT.streams()})
    assert stage.call(CHAT, alias, stream=True).body == flood + CHAT.error_event
    assert stage.order(alias) == ["a"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_s08_encoded_replies(stage: Stage, encoding: str) -> None:
    """S08: encoded errors are judged, encoded streams too, and what is released is released as it came."""
    alias = stage.alias()
    stage.play(alias, {"a": encoded(404, filled(CHAT.refusal[1], alias), encoding)})
    stage.play(alias, {"b": encoded(200, CHAT.answer, encoding)})
    response = stage.call(CHAT, alias)
    assert response.header("content-encoding") == encoding
    assert stage.order(alias) == ["a", "b"]
    streamed = stage.alias()
    stage.play(streamed, {"a": sse(CHAT.error_event, encoding=encoding), "b": sse(*CHAT.events, encoding=encoding)})
    response = stage.call(CHAT, streamed, stream=True)
    assert response.header("content-encoding") == encoding
    assert stage.order(streamed) == ["a", "a", "b"]


@pytest.mark.parametrize("upstream_http2", [True, False], ids=["to-h2", "to-h1"])
def test_s10_many_streams_on_one_connection(stage: Stage, upstream_http2: bool) -> None:
    """S10: a hundred streams on one HTTP/2 connection, every other one replayed, do not disturb each other."""
    count = 100
    aliases = [stage.alias("pair" if upstream_http2 else "h1") for _ in range(count)]
    first, second = ("a", "b") if upstream_http2 else ("x", "x2")
    for number, alias in enumerate(aliases):
        words = [data({"choices": [{"index": 0, "delta": {"content": f"{alias} {n}"}}]}) for n in range(3)]
        stage.play(alias, {first: refusal(CHAT, alias) if number % 2 else sse(*words, b"data: [DONE]\n\n")})
        stage.play(alias, {second: sse(*words, b"data: [DONE]\n\n")})
    with stage.connect(CHAT, http2=True) as connection:
        streams = []
        for alias in aliases:
            path, body = CHAT.ask(alias, True)
            streams.append(connection.send("POST", path, [CHAT.header(TOOL)], json.dumps(body).encode()))
        for alias, stream in zip(aliases, streams, strict=True):
            response = stream.finish()
            assert (response.status, response.end) == (200, End.CLEAN), response.body
            assert response.body.count(alias.encode()) == 3
            assert response.body.count(b"data:") == 4


def test_s11_the_plain_twin_skips_what_the_stream_learnt(stage: Stage) -> None:
    """S11: Claude Code asks again without stream at once; that call goes straight to B."""
    alias = stage.alias()
    stage.play(alias, {"claude-a": refusal(MESSAGES, alias), "claude-b": MESSAGES.streams()})
    assert stage.call(MESSAGES, alias, stream=True).status == 200
    stage.play(alias, {"claude-b": MESSAGES.answers()})
    assert stage.call(MESSAGES, alias).status == 200
    assert stage.order(alias) == ["claude-a", "claude-b", "claude-b"]
