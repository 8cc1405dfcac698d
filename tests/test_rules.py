"""What a reply means: the shipped rules and the laws of judging. No test here knows the corpus."""

from __future__ import annotations

import json
import statistics
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.reply import ErrorInfo, Fault, FaultKind, Reply
from understudy.rulefolder import shipped
from understudy.rules import ASKED, Condition, Example, Label, Rule, Ruleset, Scope, Status, Then, Verdict

RULES = shipped()
MATCHES = [(rule, example) for rule in RULES.rules for example in rule.matches]
NEAR_MISSES = [(rule, example) for rule in RULES.rules for example in rule.near_misses]
SUSPENDING = {Label.MODEL_UNSUPPORTED, Label.RATE_LIMITED, Label.QUOTA_EXHAUSTED, Label.CREDENTIAL_REJECTED}
HARMLESS = {Label.REQUEST_INVALID, Label.UNKNOWN}


def judge(body: object, status: int = 400, **fields: object) -> Verdict:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return RULES.judge(Reply(status=status, body=text.encode(), **{"model": "acme-1", **fields}))  # type: ignore[arg-type]


def name_of(value: object) -> str:
    return value.id if isinstance(value, Rule) else f"line{value.line}" if isinstance(value, Example) else ""


@pytest.mark.parametrize(("rule", "example"), MATCHES, ids=name_of)
def test_every_example_gets_the_label_of_its_rule(rule: Rule, example: Example) -> None:
    assert rule.matches_reply(example.reply)
    if rule.status is Status.STABLE:
        assert RULES.judge(example.reply).label is rule.label


@pytest.mark.parametrize(("rule", "example"), NEAR_MISSES, ids=name_of)
def test_no_near_miss_is_matched_by_its_rule(rule: Rule, example: Example) -> None:
    assert not rule.matches_reply(example.reply)


def test_every_label_that_needs_a_rule_has_one() -> None:
    assert {rule.label for rule in RULES.rules} == set(Label) - {Label.OK, Label.UNKNOWN}
    assert set(ASKED) == set(Label)


# -- structure --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_is_about_the_upstream(kind: FaultKind) -> None:
    verdict = RULES.judge(Reply(status=0, fault=Fault(kind, "it\nbroke", sent=False)))
    assert (verdict.label, verdict.rule, verdict.then.scope) == (Label.OVERLOADED, "builtin/fault", Scope.UPSTREAM)
    assert verdict.evidence == f"{kind}: it broke"


@pytest.mark.parametrize("status", [0, 100, 301, 302, 304, 307, 403])
def test_what_nothing_recognises_is_unknown(status: int) -> None:
    assert judge("", status).label is Label.UNKNOWN
    assert judge("", status).rule == "builtin/unknown"


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


def test_a_later_rule_replaces_one_with_the_same_id() -> None:
    rules = Ruleset([a_rule("v/a", Label.RATE_LIMITED), a_rule("v/a", Label.OVERLOADED, then=Then(seconds=5))])
    assert rules.judge(Reply(400)) == Verdict(Label.OVERLOADED, "v/a", "HTTP 400", Then(seconds=5))


def test_a_draft_is_loaded_and_never_acts() -> None:
    draft = a_rule("v/a", Label.MODEL_UNSUPPORTED, status=Status.DRAFT)
    rules = Ruleset([draft])
    assert rules.drafts == (draft,)
    assert rules.judge(Reply(400)).label is Label.UNKNOWN


def test_a_veto_looks_at_every_error() -> None:
    about_x = Condition(((lambda reply, info: info.message == "x",),))
    about_y = Condition(((lambda reply, info: info.message == "y",),))
    rule = Rule("v/a", Label.OVERLOADED, "a", "s", about_x, unless=about_y)
    assert rule.find(Reply(400, body=b'{"errors": [{"message": "x"}]}')) == 0
    assert rule.find(Reply(400, body=b'{"errors": [{"message": "x"}, {"message": "y"}]}')) is None


# -- hostile input and speed ------------------------------------------------------------------------------------

SENTENCES = st.sampled_from([example.reply.body.decode() for _, example in MATCHES])


@settings(deadline=None)
@given(
    SENTENCES,
    st.integers(0, 400),
    st.text(max_size=8),
    st.integers(0, 12),
    st.sampled_from([200, 400, 404, 429, 500]),
    st.sampled_from(["", "error"]),
)
def test_mutated_replies_never_raise(body: str, at: int, new: str, gone: int, status: int, event: str) -> None:
    mutated = body[:at] + new + body[at + gone :]
    verdict = RULES.judge(Reply(status, body=mutated.encode("utf-8", "surrogatepass"), event=event, model="acme-1"))
    assert verdict.label in Label
    assert len(verdict.evidence) <= 200


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


def test_a_success_is_not_parsed() -> None:
    reply = Reply(200, body=b'{"choices": [{"message": {"content": "' + b"x" * 4000 + b'"}}]}')
    assert RULES.judge(reply).label is Label.OK
    assert "json" not in vars(reply)
    assert "errors" not in vars(reply)


def test_judging_is_quick() -> None:
    """A median far above 200 us would be felt; the bound leaves room for slow machines."""

    def error(number: int) -> Reply:
        body = {"error": {"message": f"Something odd happened ({number})", "code": "odd"}, "trace": "a b c " * 650}
        return Reply(400, model="acme-1", body=json.dumps(body).encode())

    durations = []
    for number in range(200):
        reply = error(number)
        begun = time.perf_counter()
        RULES.judge(reply)
        durations.append(time.perf_counter() - begun)
    assert statistics.median(durations) < 2e-3


@pytest.mark.parametrize(
    "piece", ["model ", "acme-1 is ", "\" ' ` {'error': ", "no access model not token exceeds ", "{"]
)
def test_hostile_messages_do_not_take_long(piece: str) -> None:
    begun = time.perf_counter()
    judge({"error": {"message": piece * (100_000 // len(piece))}})
    assert time.perf_counter() - begun < 0.5


def test_said_is_what_rules_see() -> None:
    reply = Reply(
        404, model="acme-1", body=json.dumps({"error": {"message": "Model  ACME-1 is gone", "code": "X"}}).encode()
    )
    assert reply.said == (ErrorInfo(code="x", message="model {model} is gone"),)
