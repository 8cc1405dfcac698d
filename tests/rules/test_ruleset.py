"""What a reply means: the shipped rules and the laws of judging. No test here knows the corpus."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.e2e.behaviours import encoder_of
from understudy.config.secrets.sources import EnvSecret
from understudy.dialects.base import Call, Endpoint, Kind
from understudy.dialects.openai import OpenAI
from understudy.model.pool import Candidate, Credential, Upstream
from understudy.model.verdict import ASKED, Label, Scope, Then, Verdict
from understudy.replies.hold import Hold, Secret
from understudy.replies.reply import Fault, FaultKind, Reply
from understudy.replies.unwrap import ErrorInfo
from understudy.requests.sites import Recognised
from understudy.rules.conditions import Condition
from understudy.rules.folders import shipped
from understudy.rules.near_misses import faults
from understudy.rules.ruleset import FAULT_RULES, OWN_HOPE, Rule, Ruleset, Status
from understudy.rules.speaker import one_line

RULES = shipped()
MATCHES = [(rule, example) for rule in RULES.rules for example in rule.matches]
NEAR_MISSES = [(rule, example) for rule in RULES.rules for example in rule.near_misses]
SUSPENDING = {Label.MODEL_UNSUPPORTED, Label.RATE_LIMITED, Label.QUOTA_EXHAUSTED, Label.CREDENTIAL_REJECTED}
DATE = "Fri, 02 Jan 2026 00:00:00 GMT"
HARMLESS = {Label.REQUEST_INVALID, Label.UNKNOWN}


def judge(body: object, status: int = 400, **fields: object) -> Verdict:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return RULES.judge(Reply(status=status, body=text.encode(), **{"model": "acme-1", **fields}))  # type: ignore[arg-type]


def test_every_example_gets_exactly_its_label() -> None:
    """Each rule speaks in its matches and is silent in its near misses; no reply gets two labels from one folder."""
    assert list(faults(RULES, RULES.rules)) == []
    assert len(MATCHES) > 120
    assert len(NEAR_MISSES) > 80


@pytest.mark.parametrize(("status", "is_redirect"), [(300, True), (399, True), (400, False), (199, False)])
def test_what_is_a_redirect(status: int, is_redirect: bool) -> None:
    assert (judge("", status).rule == "builtin/redirect") is is_redirect


@pytest.mark.parametrize(("length", "shown"), [(200, "x" * 200), (201, "x" * 199 + "…")])
def test_evidence_is_one_line_of_200_characters(length: int, shown: str) -> None:
    assert one_line("x" * length) == shown
    assert one_line(" x\n\n y ") == "x y"


def test_every_label_that_needs_a_rule_has_one() -> None:
    assert {label for rule in RULES.rules for label in rule.labels} == set(Label) - {Label.OK, Label.UNKNOWN}
    assert set(ASKED) == set(Label)


# -- structure --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_is_about_the_upstream(kind: FaultKind) -> None:
    verdict = RULES.judge(Reply(status=0, fault=Fault(kind, "it\nbroke", sent=False)))
    assert (verdict.label, verdict.rule, verdict.then.scope) == (Label.OVERLOADED, FAULT_RULES[kind], Scope.UPSTREAM)
    assert verdict.evidence == f"{kind}: it broke"


@pytest.mark.parametrize("status", [0, 100, 403])
def test_what_nothing_recognises_is_unknown(status: int) -> None:
    assert judge("", status).label is Label.UNKNOWN
    assert judge("", status).rule == "builtin/unknown"


@pytest.mark.parametrize("status", [301, 302, 304, 307])
def test_a_redirect_is_no_answer(status: int) -> None:
    """A03: an open verdict, which another candidate is asked about (J01)."""
    verdict = judge("", status)
    assert (verdict.label, verdict.rule, verdict.is_open) == (Label.UNKNOWN, "builtin/redirect", True)


def test_a_redirect_is_unknown_whatever_it_says() -> None:
    assert judge({"error": {"code": "model_not_found"}}, 307).label is Label.UNKNOWN


@pytest.mark.parametrize(
    ("status", "label"),
    [
        (401, Label.CREDENTIAL_REJECTED),
        (402, Label.QUOTA_EXHAUSTED),
        (429, Label.RATE_LIMITED),
        (500, Label.OVERLOADED),
        (502, Label.OVERLOADED),
        (503, Label.OVERLOADED),
        (504, Label.OVERLOADED),
        (529, Label.OVERLOADED),
    ],
)
def test_a_bare_status_speaks_for_itself(status: int, label: Label) -> None:
    assert judge("", status).label is label
    assert judge({"error": {"message": "Hm."}}, status).label is label


def test_ok() -> None:
    assert judge({"choices": [{"message": {"content": "hello"}}]}, 200) == Verdict(Label.OK, "builtin/ok", "HTTP 200")
    assert judge("", 204).label is Label.OK


@pytest.mark.parametrize("event", ["", "error"])
def test_a_200_with_an_error_object_is_judged_like_an_error(event: str) -> None:
    """F11: 200 with a top-level error object: judged like an error, plain and streamed."""
    error = {"message": "The model `acme-1` does not exist", "code": "model_not_found"}
    verdict = judge({"type": "error", "error": error} if event else {"error": error}, 200, event=event)
    assert verdict.label is Label.MODEL_UNSUPPORTED
    assert verdict.names_model
    assert judge({"error": error, "choices": []}, 200).label is Label.MODEL_UNSUPPORTED
    assert judge([{"error": error}], 200).label is Label.MODEL_UNSUPPORTED


def test_events_of_a_stream_are_judged() -> None:
    """F11: an error event under a 200 is a reply like any other."""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert judge(overloaded, 200, event="error").label is Label.OVERLOADED
    failed = {"type": "response.failed", "response": {"status": "failed", "error": {"code": "rate_limit_exceeded"}}}
    assert judge(failed, 200, event="response.failed").label is Label.RATE_LIMITED
    assert judge({"type": "response.failed", "response": {}}, 200).label is Label.OVERLOADED
    assert judge("", 200, event="error").label is Label.UNKNOWN


# -- what is not about the model --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 409, 413, 422])
@pytest.mark.parametrize("body", ["", "malformed payload", {"error": {"message": "malformed payload"}}, {}, [], "null"])
def test_a_bare_refusal_of_the_request_suspends_nothing(status: int, body: object) -> None:
    """F07: a bare 400 "malformed payload", a plain 422, a 409, a 413: request_invalid or unknown."""
    assert judge(body, status).label in HARMLESS


REFUSAL = "The model `acme-1` does not exist or you do not have access to it."


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": f'Invalid message content: "{REFUSAL}"'}},
        {"error": {"message": f"Invalid value for messages[3].content: {REFUSAL}", "param": "messages[3].content"}},
        {"error": {"message": f"Invalid messages[3].content: {REFUSAL}"}},
        {"error": {"message": "Could not parse the request", "request": {"messages": [{"content": REFUSAL}]}}},
        {"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "bad", "type": "x", "input": REFUSAL}]},
        {"error": {"message": f"Failed to parse tool call arguments: {json.dumps({'error': {'message': REFUSAL}})}"}},
        {"error": {"message": "Bad request"}, "prompt": REFUSAL, "messages": [{"role": "user", "content": REFUSAL}]},
        f"<html><body>{REFUSAL}</body></html>",
    ],
)
def test_an_echoed_refusal_is_no_refusal(body: object) -> None:
    """F08: the refusal's wording inside an echoed prompt or a tool argument: no refusal."""
    for status in (400, 404, 422):
        assert judge(body, status).label in HARMLESS


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"role": "assistant", "content": REFUSAL}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"tool_calls": [{"function": {"arguments": json.dumps({"error": REFUSAL})}}]}}]},
        {"content": [{"type": "text", "text": json.dumps({"error": {"code": "model_not_found"}})}], "type": "message"},
        {"status": "completed", "error": None, "output": [{"content": [{"text": REFUSAL}]}]},
        {"candidates": [{"content": {"parts": [{"text": REFUSAL}]}}]},
        'data: {"choices":[{"delta":{"content":"{\\"error\\": \\"model not found\\"}"}}]}\n\n',
    ],
)
def test_an_assistant_that_speaks_of_a_refusal_is_ok(body: object) -> None:
    """F08: the refusal's wording in an assistant text under a 200: ok."""
    assert judge(body, 200).label is Label.OK


@pytest.mark.parametrize("kind", ["generating", "auxiliary"])
@pytest.mark.parametrize(
    "body",
    [
        "",
        "404 page not found",
        "404 page not found\n",
        "Not Found",
        "Cannot POST /v1/messages/count_tokens",
        "<!DOCTYPE html><html><title>404 Not Found</title><h1>Model not found</h1></html>",
        "<html>\r\n<head><title>404 Not Found</title></head>\r\n<center>nginx</center></html>",
        {"detail": "Not Found"},
        {"error": "Not Found"},
        {"error": {"message": "Not Found"}},
        {"error": {"code": 404, "message": "Not Found", "status": "NOT_FOUND"}},
        {"error": {"code": "404", "message": "Resource not found"}},
        {"type": "about:blank", "title": "Not Found", "status": 404},
        {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "No such resource", "instance": "/v1/x"},
        {"type": "error", "error": {"type": "not_found_error", "message": "Not Found"}},
        {"timestamp": 1, "status": 404, "error": "Not Found", "path": "/v1/models/acme-1"},
        {"message": "no Route matched with those values"},
        {"message": "Route POST:/v1/chat not found", "error": "Not Found", "statusCode": 404},
        {"error": {"message": "Invalid URL (POST /v1/v1/chat/completions)", "type": "invalid_request_error"}},
        {"error": {"message": "Unknown request URL: POST /v1/models/acme-1", "code": "unknown_url"}},
    ],
)
def test_a_generic_404_suspends_nothing(body: object, kind: str) -> None:
    """F09: 404 of a wrong path (HTML page, "404 page not found", FastAPI detail, problem+json): released."""
    assert judge(body, 404, kind=kind).label in HARMLESS


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "tools are not supported with this model",
        "acme-1 does not support tools",
        "This model does not support image input",
        "image input is not supported for acme-1",
        "The model `acme-1` does not support streaming",
        "reasoning effort xhigh is not supported by acme-1",
        "adaptive thinking is not supported on this model",
        "temperature is not supported with this model",
        "This model is not supported in the v1/chat/completions endpoint",
        "No endpoints found that support tool use",
        "该模型不支持图片输入",
        "当前模型不支持工具调用",
    ],
)
@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_unsupported_feature_is_not_an_unsupported_model(message: str, status: int) -> None:
    """F10: parameter/tool/image/stream/effort not supported with this model: capability_unsupported."""
    assert judge({"error": {"message": message}}, status).label is Label.CAPABILITY_UNSUPPORTED


@pytest.mark.parametrize(
    "message",
    [
        "This model is not supported",
        "The requested model is not supported.",
        "The 'acme-1' model is not supported when using this account.",
        "Model acme-1 is not supported by any provider you have enabled.",
        "your plan does not support this model",
        "不支持的模型",
        "当前套餐不支持该模型",
        "模型 acme-1 不支持",
    ],
)
def test_an_unsupported_model_is_not_an_unsupported_feature(message: str) -> None:
    """F10, the other way round: "this model is not supported" is about the model."""
    assert judge({"error": {"message": message}}).label is Label.MODEL_UNSUPPORTED


@pytest.mark.parametrize(
    ("message", "label"),
    [
        ("model is required", Label.REQUEST_INVALID),
        ("you must provide a model parameter", Label.REQUEST_INVALID),
        ("The model is overloaded. Please try again later.", Label.OVERLOADED),
        ("Model acme-1 is currently loading", Label.OVERLOADED),
        ("Input is too long for requested model.", Label.CONTEXT_EXCEEDED),
        ("This model's maximum context length is 8192 tokens", Label.CONTEXT_EXCEEDED),
        ("Your credit balance is too low to access this model", Label.QUOTA_EXHAUSTED),
        ("The selected model requires paid balance. Your balance is insufficient.", Label.QUOTA_EXHAUSTED),
        ("Too many requests for model acme-1", Label.RATE_LIMITED),
        ("The model rejected the prompt: content filter", Label.CONTENT_FILTERED),
    ],
)
def test_sentences_that_mention_a_model_and_mean_something_else(message: str, label: Label) -> None:
    assert judge({"error": {"message": message}}).label is label


@pytest.mark.parametrize(
    "message",
    [
        "Invalid model 'acme-1'. Permitted models can be found in the documentation.",
        "No engine with that ID: acme-1",
        "The endpoint acme-1 is fine but the model is not available on your plan",
        "No available accounts support the requested model: acme-1",
        "Error code: 404 - {'error': {'message': 'The model `acme-1` does not exist', 'code': None}}",
        "Not found the model acme-1 or Permission denied",
        "acme-1 is deprecated. Use acme-2.",
        "Could not resolve model: acme-1",
        "模型 acme-1 未配置",
        "您的账号没有权限使用该模型",
        "该模型已下线",
    ],
)
def test_vendors_nobody_wrote_a_rule_for(message: str) -> None:
    for status in (400, 403, 404, 500, 503):
        assert judge({"error": {"message": message}}, status).label is Label.MODEL_UNSUPPORTED


def test_a_pool_that_is_busy_is_not_a_missing_model() -> None:
    """The difference between "none supports it" and "none is free now"."""
    busy = {
        "error": {"message": "No accounts available for model acme-1, all are rate limited. Retry in 20 s", "code": ""}
    }
    assert judge(busy, 429).label is Label.RATE_LIMITED


# -- evidence, order, drafts ------------------------------------------------------------------------------------


def test_evidence_is_one_short_line() -> None:
    verdict = judge({"error": {"message": "no\nsuch\x00 model " + "x" * 500, "code": "model_not_found"}}, 404)
    assert verdict.evidence.startswith("HTTP 404: model_not_found: no such model xxx")
    assert len(verdict.evidence) == 200
    assert verdict.evidence.isprintable()


def a_rule(identity: str, label: Label, **fields: object) -> Rule:
    always = Condition(((lambda reply, info: True,),))
    return Rule(identity, label, "about", "source", always, **fields)  # type: ignore[arg-type]


def test_vendors_are_asked_before_general_and_fallback() -> None:
    rules = [
        a_rule("fallback/a", Label.CONTEXT_EXCEEDED),
        a_rule("general/a", Label.CONTEXT_EXCEEDED),
        a_rule("vendor/z", Label.MODEL_UNSUPPORTED),
        a_rule("vendor/b", Label.RATE_LIMITED),
    ]
    ordered = [rule.id for rule in Ruleset(rules).rules]
    assert ordered == ["vendor/b", "vendor/z", "general/a", "fallback/a"]
    assert Ruleset(rules).judge(Reply(400)).rule == "vendor/b"


def test_the_first_folder_is_asked_first_and_hides_its_ids() -> None:
    own = [a_rule("general/mine", Label.RATE_LIMITED), a_rule("v/a", Label.OVERLOADED, then=Then(seconds=5))]
    rules = Ruleset(own, [a_rule("v/a", Label.REQUEST_INVALID), a_rule("v/b", Label.CONTEXT_EXCEEDED)])
    assert [rule.id for rule in rules.rules] == ["v/a", "general/mine", "v/b"]
    assert rules.judge(Reply(400)) == Verdict(Label.OVERLOADED, "v/a", "HTTP 400", Then(seconds=5))


def test_a_draft_is_told_and_never_acts() -> None:
    """A draft hides nothing, decides nothing, and says what it would have said."""
    draft = a_rule("v/a", Label.MODEL_UNSUPPORTED, status=Status.DRAFT)
    rules = Ruleset([draft], [a_rule("v/a", Label.REQUEST_INVALID)])
    assert rules.drafts == (draft,)
    verdict = rules.judge(Reply(400))
    assert (verdict.label, verdict.drafts) == (Label.REQUEST_INVALID, ("v/a: model_unsupported",))
    assert Ruleset([draft]).judge(Reply(400)).label is Label.UNKNOWN
    assert Ruleset([draft]).judge(Reply(200)).drafts == ()


def test_two_labels_for_one_reply_are_a_mistake_not_an_order() -> None:
    one, two = a_rule("v/one", Label.OVERLOADED), a_rule("w/two", Label.MODEL_UNSUPPORTED)
    assert {voice.label for voice in Ruleset([one, two]).voices(Reply(400))} == {one.label, two.label}
    vetoed = a_rule("w/two", Label.MODEL_UNSUPPORTED, vetoed_by=frozenset({"v/one"}))
    assert [voice.rule for voice in Ruleset([one, vetoed]).voices(Reply(400))] == ["v/one"]
    first = a_rule("v/one", Label.OVERLOADED, vetoed_by=frozenset({"w/two"}))
    assert Ruleset([first, two]).judge(Reply(400)).rule == "w/two"
    assert [voice.rule for voice in Ruleset([one], [two]).voices(Reply(400))] == ["v/one"]


def test_a_veto_looks_at_every_error() -> None:
    about_x = Condition(((lambda reply, info: info.message == "x",),))
    about_y = Condition(((lambda reply, info: info.message == "y",),))
    rule = Rule("v/a", Label.OVERLOADED, "a", "s", about_x, unless=about_y)
    assert rule.find(Reply(400, body=b'{"errors": [{"message": "x"}]}')) == 0
    assert rule.find(Reply(400, body=b'{"errors": [{"message": "x"}, {"message": "y"}]}')) is None


# -- hostile input ----------------------------------------------------------------------------------------------

BODIES = [example.reply.body for _, example in MATCHES]


def mutated(random: Random) -> Reply:
    """An example's reply, spoilt; or noise."""
    body = bytearray(random.choice(BODIES) if random.random() < 0.9 else random.randbytes(random.randrange(300)))
    for _ in range(random.randrange(4)):
        at = random.randrange(len(body) + 1)
        other = random.choice(BODIES)
        body[at : at + random.randrange(12)] = random.choice(
            [b"", b"{", b'"', b"\\", b"[" * 50, b"\xff", b"\r\n\r\n", b"'error': '", other[: random.randrange(80)]]
        )
    return Reply(
        random.choice([0, 200, 204, 302, 400, 401, 403, 404, 413, 422, 429, 500, 503, 529]),
        body=bytes(body),
        event=random.choice(["", "", "error", "response.failed"]),
        model=random.choice(["", "acme-1", "a", "auto", "models/x", "{model}", "("]),
        host=random.choice(["", "api.z.ai", "x"]),
    )


@pytest.mark.parametrize("seed", range(10))
def test_mutated_replies_never_raise(seed: int) -> None:
    """Ten thousand in all; `scripts/bench-rules --mutated` tries more."""
    random = Random(seed)
    for _ in range(1000):
        reply = mutated(random)
        verdict = RULES.judge(reply)
        assert verdict.label in Label
        assert len(verdict.evidence) <= 200
        assert verdict.evidence.isprintable()
        assert reply.status >= 200 or verdict.label is Label.UNKNOWN


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(0, 999), st.text(max_size=10), st.text(max_size=10))
def test_random_replies_never_raise(body: bytes, status: int, model: str, event: str) -> None:
    verdict = RULES.judge(Reply(status, body=body, model=model, event=event))
    if status in (301, 302, 0):
        assert verdict.label is Label.UNKNOWN


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from([400, 404, 409, 413, 422]))
def test_random_words_never_suspend_for_a_missing_model(words: str, status: int) -> None:
    assert judge({"error": {"message": words}}, status).label is not Label.MODEL_UNSUPPORTED


UPSTREAM = Upstream("u", "openai", "https", "u.example", 443)
CANDIDATE = Candidate(Credential("c", UPSTREAM, EnvSecret("HOME")), "acme-1")
RECOGNISED = Recognised(OpenAI(), Endpoint("chat/completions", Kind.GENERATING), "/chat/completions", "")


def held(reply: Reply, encoding: str, cuts: list[int]) -> Verdict:
    """The verdict on a reply that came in pieces and encoded."""
    encoder = encoder_of(encoding)
    wire = encoder.encode(reply.body) + encoder.finish()
    hold = Hold(RECOGNISED, Call("acme-1", False), CANDIDATE, Secret("c", "sk-secret-0123456789"))
    headers = [("content-type", "application/json"), *reply.headers]
    hold.start(reply.status, [*headers, *([("content-encoding", encoding)] if encoding else [])])
    places = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        hold.data(wire[start:end])
    hold.end()
    return RULES.judge(hold.reply())


@settings(deadline=None)
@given(
    st.sampled_from([example.reply for _, example in MATCHES]),
    st.sampled_from(["", "gzip", "br", "zstd"]),
    st.lists(st.integers(0, 5000), max_size=6),
)
def test_chunks_and_encodings_do_not_matter(reply: Reply, encoding: str, cuts: list[int]) -> None:
    """S05, S08: the same reply cut into any chunks or re-encoded gives the same verdict."""
    assert held(reply, encoding, cuts) == held(reply, "", [])


@settings(deadline=None)
@given(st.sampled_from([example.reply for _, example in MATCHES if example.reply.body[:1] in (b"{", b"[")]))
@example(Reply(400, body='{"error": {"message": "模型不存在"}}'.encode()))
def test_the_spelling_of_json_and_the_charset_do_not_matter(reply: Reply) -> None:
    """ASCII escapes, spaces, a byte order mark, another charset: the same verdict."""
    expected = RULES.judge(reply).label
    value = json.loads(reply.body)
    fields = {name: getattr(reply, name) for name in ("dialect", "model", "host", "event", "kind")}
    for body, charset in (
        (json.dumps(value, indent=3).encode(), ""),
        (json.dumps(value, ensure_ascii=False).encode("utf-8-sig"), ""),
        (json.dumps(value, ensure_ascii=False).encode("gb18030"), "; charset=GB18030"),
        (json.dumps(value, ensure_ascii=False).encode("utf-16"), ""),
    ):
        headers = (*reply.headers, ("Content-Type", f"application/json{charset}"))
        assert RULES.judge(Reply(reply.status, headers=headers, body=body, **fields)).label is expected


def test_a_success_is_not_parsed() -> None:
    reply = Reply(200, body=b'{"choices": [{"message": {"content": "' + b"x" * 4000 + b'"}}]}')
    assert RULES.judge(reply).label is Label.OK
    assert "json" not in vars(reply)
    assert "errors" not in vars(reply)


def test_said_is_what_rules_see() -> None:
    reply = Reply(
        404, model="acme-1", body=json.dumps({"error": {"message": "Model  ACME-1 is gone", "code": "X"}}).encode()
    )
    assert reply.said == (ErrorInfo(code="x", message="model {model} is gone"),)


# -- certainty --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "rule", "is_open"),
    [
        (Reply(404, body=b'{"error": {"code": "model_not_found"}}'), "general/model_unsupported", False),
        (Reply(429, body=b'{"error": "Too many requests"}'), "general/rate_limited", False),
        (Reply(200, body=b'{"base_resp": {"status_code": 1008}}'), "minimax/quota_exhausted", False),
        (Reply(200, body=b'{"choices": [{}]}'), "builtin/ok", False),
        (Reply(500), "fallback/overloaded", True),
        (Reply(400, body=b'{"error": "A strange thing"}'), "fallback/request_invalid", True),
        (Reply(403, body=b'{"error": "Seat 4 is taken"}'), "builtin/unknown", True),
        (Reply(302), "builtin/redirect", True),
        (Reply(200, dialect="openai", endpoint="chat/completions", body=b"null"), "builtin/no_answer", True),
        (Reply(400, headers=(("x-understudy", "1"),)), "builtin/understudy", True),
        (Reply(0, fault=Fault(FaultKind.CLOSED, "it broke", sent=True)), "builtin/closed", True),
    ],
)
def test_a_verdict_is_certain_where_words_made_it(reply: Reply, rule: str, is_open: bool) -> None:
    """J01-J03 rest on this: only an open verdict is compared with what another candidate says."""
    verdict = RULES.judge(reply)
    assert (verdict.rule, verdict.is_open) == (rule, is_open)
    assert verdict.in_words == f"{verdict.label} by {rule}" + (" (open)" if is_open else "")


def test_every_shipped_rule_is_certain_but_the_fallbacks() -> None:
    for rule, shown in MATCHES:
        said = rule.speak(shown.reply)
        assert said is not None
        # Cerebras says nothing at all: only the status speaks.
        only_a_status = rule.id.startswith("fallback/") or rule.id == "cerebras/context_exceeded"
        assert said.is_open == only_a_status, rule.id


# -- hints of hours ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "headers", "label", "scope"),
    [
        ("Too many requests. Please try again in 58 hours", {}, Label.QUOTA_EXHAUSTED, None),
        ("Too many requests for acme-1, try again in 58 hours", {}, Label.QUOTA_EXHAUSTED, Scope.CANDIDATE),
        ("Rate limit reached", {"retry-after": "7200"}, Label.QUOTA_EXHAUSTED, None),
        ("Rate limit reached", {"retry-after": "1555200"}, Label.RATE_LIMITED, None),
        ("Rate limit reached, resets at 2026-01-02T03:00:00Z", {"date": DATE}, Label.QUOTA_EXHAUSTED, None),
        ("Rate limit reached, resets at 2026-01-02T00:05:00Z", {"date": DATE}, Label.RATE_LIMITED, None),
        ("Rate limit reached, resets at 2026-01-02T03:00:00Z", {}, Label.RATE_LIMITED, None),
        ("Too many requests, try again in 59 minutes", {}, Label.RATE_LIMITED, None),
        ("Slow down", {}, Label.RATE_LIMITED, None),
    ],
)
def test_hours_make_a_rate_limit_a_quota(
    message: str, headers: dict[str, str], label: Label, scope: Scope | None
) -> None:
    """L05: nobody is asked to slow down for hours; the verdict is a function of the reply, so dates need its own."""
    verdict = judge({"error": {"message": message}}, 429, headers=tuple(headers.items()))
    assert (verdict.label, verdict.then.scope, verdict.certain) == (label, scope, True)


def test_a_bare_429_of_hours_stays_what_it_is() -> None:
    """L03: a Retry-After of 18 days without a word is no quota."""
    assert judge("", 429, headers=(("retry-after", "1555200"),)).rule == "fallback/rate_limited"


# -- misreadings by kind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "status", "label"),
    [
        # somebody else's file, cache or bucket, told like a key's fault
        ("You do not have permission to access the File abc or it may not exist.", 403, Label.REQUEST_INVALID),
        ("Permission denied on cachedContents/abc123", 403, Label.REQUEST_INVALID),
        ("Access denied to bucket gs-notes", 403, Label.REQUEST_INVALID),
        ("Error retrieving tool list from MCP server: 'notes'. Http status code: 401", 424, Label.REQUEST_INVALID),
        ("You do not have permission to access this model", 403, Label.MODEL_UNSUPPORTED),
        ("API key not found", 401, Label.CREDENTIAL_REJECTED),
        # a parameter that is deprecated, and a model that is
        ("`temperature` is deprecated for this model.", 400, Label.CAPABILITY_UNSUPPORTED),
        ("top_p is no longer supported with acme-1", 400, Label.CAPABILITY_UNSUPPORTED),
        ("acme-1 is deprecated", 400, Label.MODEL_UNSUPPORTED),
        # a number of tokens, and a feature
        ("the context length only supports 30000 tokens", 400, Label.CONTEXT_EXCEEDED),
        ("This endpoint only supports streaming", 400, Label.CAPABILITY_UNSUPPORTED),
        # a plan or a marketplace, in words about users and roles
        ("Model access is denied due to IAM user or service role is not authorized", 403, Label.MODEL_UNSUPPORTED),
        ("your current token plan not support model, acme-1", 500, Label.MODEL_UNSUPPORTED),
        ("Your role is not authorized to perform: notes:Read", 403, Label.CREDENTIAL_REJECTED),
        # a key that the relay does not have
        ("NVIDIA_NIM_API_KEY is not set. Add it to your .env file.", 503, Label.CREDENTIAL_REJECTED),
        ("max_tokens is not set", 400, Label.REQUEST_INVALID),
        # an account that has spent what it may, and one that is banned
        ("Account acme is suspended, possibly due to reaching the spending limit", 412, Label.QUOTA_EXHAUSTED),
        ("Account acme has been suspended", 403, Label.CREDENTIAL_REJECTED),
        # budgets of tokens, and of money
        ("thinking budget must be less than max_tokens", 400, Label.REQUEST_INVALID),
        ("Budget has been exceeded! Current cost: 14.0", 400, Label.QUOTA_EXHAUSTED),
        ("Model id: acme-1, has no provider supported", 400, Label.MODEL_UNSUPPORTED),
        ("context deadline exceeded", 500, Label.OVERLOADED),
        ("Your access was terminated due to violation of our policies", 403, Label.CREDENTIAL_REJECTED),
        ("No endpoints available matching your guardrail restrictions and data policy.", 404, Label.MODEL_UNSUPPORTED),
    ],
)
def test_known_misreadings_by_kind(message: str, status: int, label: Label) -> None:
    """Each stands for its kind, with a neighbour that sounds alike and means something else."""
    assert judge({"error": {"message": message}}, status).label is label


def test_a_timeout_inside_a_success_is_overloaded() -> None:
    body = {"base_resp": {"status_code": 1001, "status_msg": "request timeout"}}
    assert judge(body, 200).label is Label.OVERLOADED


def test_only_rules_that_could_speak_are_asked_and_nothing_changes() -> None:
    """The index leaves out rules of other hosts and of other codes; every example is judged as without it."""
    for rule, shown in MATCHES:
        alone = next((each for each in RULES.rules if each.speak(shown.reply) is not None), None)
        assert alone is not None
        assert RULES.judge(shown.reply).rule == alone.id, rule.id


@pytest.mark.parametrize("status", [200, 400, 403, 404, 413, 429, 500, 503])
def test_the_index_leaves_out_only_what_is_silent(status: int) -> None:
    """Every example, also of what a rule must not match, under other statuses than its own."""
    asked = left_out = 0
    for rule, shown in (*MATCHES, *NEAR_MISSES):
        reply = replace(shown.reply, status=status)
        worth = {each.id for each in RULES._index.asked(reply)}
        asked += len(worth)
        for each in RULES.rules:
            if each.id not in worth:
                left_out += 1
                assert each.speak(reply) is None, (each.id, rule.id, shown.line)
    assert asked * 5 < left_out


@pytest.mark.parametrize(
    ("status", "retry_after", "hopes"),
    [
        (429, "0", True),
        (429, "59", True),
        (503, "60", True),
        (503, "61", False),
        (429, "1.5", False),
        (429, "", False),
        (400, "5", False),
        (430, "5", False),
        (502, "5", False),
        (504, "5", False),
    ],
)
def test_w09_another_understudy_that_names_its_return_is_hoped_for(status: int, retry_after: str, hopes: bool) -> None:
    """W09: within a minute, in whole seconds, with one of the two statuses that ask for another round."""
    verdict = judge("", status, headers=(("x-understudy", "1"), ("retry-after", retry_after)))
    assert verdict.rule == "builtin/understudy"
    assert verdict.then is not None
    assert (verdict.then.hope == OWN_HOPE) is hopes
