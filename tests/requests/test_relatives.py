"""Relatives: dialects whose bodies say the same. A call of one is written in the other; content never changes."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.relatives import (
    AZURE,
    AZURE_BARE,
    AZURE_V1,
    CLAUDE,
    CLAUDE_VERTEX,
    EXPRESS,
    GEMINI,
    HELD_BACK,
    MESSAGE,
    MESSAGES,
    OPENAI,
    OWN,
    PROJECT,
    SECRET,
    VERTEX,
    pool_of,
    sent,
    upstream,
)  # fmt: skip
from understudy.dialects import DIALECTS, Dialect
from understudy.model.pool import Pool, Upstream
from understudy.requests.sites import Sites


def test_relatives_know_each_other_by_name() -> None:
    for dialect in DIALECTS.values():
        assert dialect.name not in dialect.relatives
        assert dialect.relatives <= DIALECTS.keys()


def test_a_route_over_relatives_serves_both() -> None:
    """O06: and the hosts of a dialect that no route could serve are not looked into."""
    pool = pool_of(OPENAI, AZURE)
    for dialect in ("openai", "azure-openai"):
        route = pool.route("m", dialect)
        assert route is not None
        assert [each.upstream for each in route.candidates("m", dialect)] == [OPENAI, AZURE]
        assert pool.has_route_for(dialect)
    assert not pool.has_route_for("anthropic")
    assert Sites(pool).pooled("other.openai.azure.com", 443)
    assert not Sites(pool_of(upstream("anthropic", "api.anthropic.com"))).pooled("other.openai.azure.com", 443)


@pytest.mark.parametrize(
    ("host", "pooled"),
    [
        ("a.openai.azure.com", True),
        ("A-1.OpenAI.Azure.com.", True),
        ("a.cognitiveservices.azure.com", True),
        ("a.services.ai.azure.com", True),
        ("openai.azure.com", False),
        (".openai.azure.com", False),
        ("a.b.openai.azure.com", False),
        ("a.openai.azure.com.evil.example", False),
        ("aopenai.azure.com", False),
        ("a.openaixazure.com", False),
    ],
)
def test_the_star_of_a_site_is_one_label(host: str, pooled: bool) -> None:
    """R10: a pattern never reaches into somebody else's names."""
    sites = Sites(pool_of(OPENAI))
    assert sites.pooled(host, 443) is pooled
    assert bool(sites.dialects_at(host, 443)) is pooled
    assert "*.openai.azure.com" in repr(sites)


T = "https://t.openai.azure.com/openai"
DATED = "?api-version=2024-10-21"
AND_DATED = "&api-version=2024-10-21"
DATED_LATER = "?api-version=2025-04-01-preview"

# -- OpenAI and Azure --------------------------------------------------------------------------------------------

CHAT = b'{ "model" : "gpt-5","stream":true, "n": 1.0}'
TOOL = {"authorization": f"Bearer {OWN}", "api-key": OWN, "openai-organization": OWN}


@pytest.mark.parametrize(
    ("at", "url", "path"),
    [
        (AZURE, "https://api.openai.com/v1/chat/completions", "/openai/deployments/d-1/chat/completions" + DATED),
        (AZURE_BARE, "https://api.openai.com/v1/embeddings?x=1", "/openai/deployments/d-1/embeddings?x=1" + AND_DATED),
        (AZURE, "https://api.openai.com/v1/responses", "/openai/responses" + DATED),
        (AZURE_BARE, "https://api.openai.com/v1/responses/compact", "/openai/responses/compact" + DATED),
        (AZURE_V1, "https://api.openai.com/v1/chat/completions?x=1", "/openai/v1/chat/completions?x=1"),
        (AZURE_V1, "https://api.openai.com/v1/responses", "/openai/v1/responses"),
    ],
)  # fmt: skip
def test_an_openai_call_goes_to_azure(at: Upstream, url: str, path: str) -> None:
    """R01, R02, R03: the deployment stands in the path or in the body; every other byte of the body stays."""
    got = sent(at, url, CHAT, model="d-1", headers=TOOL)
    assert (got.path, got.headers["api-key"]) == (path, SECRET)
    assert got.body == CHAT.replace(b"gpt-5", b"d-1")
    assert "authorization" not in got.headers and "openai-organization" not in got.headers
    assert sent(at, url, CHAT).body == CHAT


def test_a_token_for_azure_is_a_bearer() -> None:
    """R03: keys of a resource and tokens of Entra ID are told apart by the secret itself."""
    got = sent(AZURE_V1, "https://api.openai.com/v1/responses", CHAT, secret="eyJ0eXAi.x.y", headers=TOOL)
    assert got.headers["authorization"] == "Bearer eyJ0eXAi.x.y" and "api-key" not in got.headers


AZURE_CALL = "https://tool.openai.azure.com/openai/deployments/tool-dep/chat/completions?api-version=2025-01-01&y=2"


@pytest.mark.parametrize("body", [b'{"messages": [1.0]}', b'{"messages": [1.0], "model": "tool-dep"}'])
def test_an_azure_call_goes_to_openai(body: bytes) -> None:
    """R01: the deployment's name is the alias; a body that names no model gets one."""
    got = sent(OPENAI, AZURE_CALL, body, model="gpt-5", headers={"api-key": OWN})
    assert got.path == "/v1/chat/completions?y=2"
    assert got.headers["authorization"] == f"Bearer {SECRET}" and "api-key" not in got.headers
    named = b'{"messages": [1.0], "model": "gpt-5"}' if b"model" in body else b'{"model": "gpt-5", "messages": [1.0]}'
    assert got.body == named
    assert json.loads(sent(OPENAI, AZURE_CALL, body).body)["model"] == "tool-dep"


@pytest.mark.parametrize(
    ("at", "url", "path"),
    [
        (AZURE, AZURE_CALL, "/openai/deployments/d-1/chat/completions?api-version=2025-01-01&y=2"),
        (AZURE_V1, AZURE_CALL, "/openai/v1/chat/completions?y=2"),
        (AZURE_V1, f"{T}/v1/responses?api-version=preview", "/openai/v1/responses?api-version=preview"),
        (AZURE, f"{T}/v1/responses?api-version=preview", "/openai/responses" + DATED),
        (AZURE, f"{T}/responses" + DATED_LATER, "/openai/responses" + DATED_LATER),
        (AZURE, f"{T}/responses", "/openai/responses" + DATED),
    ],
)  # fmt: skip
def test_an_azure_call_goes_to_another_resource(at: Upstream, url: str, path: str) -> None:
    """R02: a tool's own API version fits its body and stays; the other form of the path takes the upstream's."""
    assert sent(at, url, CHAT, model="d-1", headers=TOOL).path == path


FORM = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\x00\xff\r\n'
FIELD = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'


def test_forms_between_openai_and_azure() -> None:
    """R02"""
    url = f"{T}/deployments/w/audio/transcriptions?api-version=1"
    assert (
        sent(OPENAI, url, FILE + b"--b--", model="whisper-1", content_type=FORM).body
        == FIELD % b"whisper-1" + FILE + b"--b--"
    )
    assert sent(AZURE, url, FILE + b"--b--", model="whisper-1", content_type=FORM).body == FILE + b"--b--"
    body = FILE + FIELD % b"w" + b"--b--"
    got = sent(AZURE, "https://api.openai.com/v1/audio/transcriptions", body, model="d", content_type=FORM)
    assert (got.path.split("?")[0], got.body) == (
        "/openai/deployments/d/audio/transcriptions",
        FILE + FIELD % b"d" + b"--b--",
    )


@pytest.mark.parametrize("endpoint", ["moderations", "images/variations"])
def test_what_azure_does_not_have(endpoint: str) -> None:
    with pytest.raises(ValueError, match=f"azure-openai has no {endpoint}"):
        sent(AZURE_V1, f"https://api.openai.com/v1/{endpoint}", CHAT)


def test_a_compressed_body_is_written_plain() -> None:
    """R02, R09: one that has to change; one that stays keeps its encoding."""
    headers = {"content-encoding": "gzip"}
    url = "https://api.openai.com/v1/responses"
    got = sent(AZURE_V1, url, gzip.compress(CHAT), model="d-1", headers=headers)
    assert got.body == CHAT.replace(b"gpt-5", b"d-1") and "content-encoding" not in got.headers
    assert got.headers["content-length"] == str(len(got.body))
    same = sent(AZURE_V1, url, gzip.compress(CHAT), headers=headers)
    assert gzip.decompress(same.body) == CHAT and same.headers["content-encoding"] == "gzip"


NAME = st.characters(codec="utf-8", exclude_characters="/\\:%\x7f\ufffd", min_codepoint=0x21)


@given(
    name=st.text(NAME, min_size=1, max_size=12)
    .filter(lambda name: name not in (".", "..") and not any(char.isspace() for char in name)),
    text=st.text(max_size=8),
)  # fmt: skip
def test_there_and_back(name: str, text: str) -> None:
    """R01, R02: whatever the model is called, OpenAI -> Azure's deployment path -> OpenAI is the body that was sent."""
    body = json.dumps({"input": text, "model": "m", "x": {"model": "m"}}).encode()
    there = sent(AZURE, "https://api.openai.com/v1/embeddings", body, model=name)
    back = sent(OPENAI, "https://t.openai.azure.com" + there.path, there.body, model="m")
    assert (back.path, back.body) == ("/v1/embeddings", body)


@pytest.mark.parametrize(
    "tail",
    [
        "/openai/deployments/d/responses",
        "/openai/deployments/d/../x/chat/completions",
        "/openai/deployments/a%2Fb/chat/completions",
        "/openai/deployments//chat/completions",
        "/openai/deployments/d/realtime",
        "/openai/deployments/d/moderations",
        "/openai/v1/files",
        "/openai/v1/v1/responses",
        "/openai/openai/openai/responses",
        "/openai/deployments/d/chat/completions/",
    ],
)
def test_what_is_no_call_to_azure(tail: str) -> None:
    """R10"""
    assert Sites(pool_of(AZURE)).recognise("t.openai.azure.com", 443, "POST", tail) is None
    assert Sites(pool_of(AZURE)).recognise("t.openai.azure.com", 443, "GET", "/openai/v1/responses") is None


def test_an_azure_call_without_an_alias_has_none() -> None:
    azure = DIALECTS["azure-openai"]
    assert azure.read("/nowhere/1", "", "", b'{"model": "m"}') is azure.read("/v1/responses", "", "", b"{}") is None
    assert azure.write_model("/v1/responses", "", b'{"model":"a"}', "b") == ("/v1/responses", b'{"model":"b"}')
    assert azure.write_model("/deployments/a/completions", "", b"?", "b c") == ("/deployments/b%20c/completions", b"?")


def test_the_plain_case_is_left_alone() -> None:
    """A call to an upstream of its own dialect with its own name is sent as it came, without being read again."""
    broken = replace(OPENAI, relatives=frozenset())
    url = "https://api.openai.com/v1/responses?api-version=1"
    assert sent(broken, url, CHAT).path == "/v1/responses?api-version=1"


# -- logins that speak a dialect elsewhere -----------------------------------------------------------------------

CODEX = "https://chatgpt.com/backend-api/codex/responses"
LOGIN = {
    "authorization": f"Bearer {OWN}",
    "chatgpt-account-id": OWN,
    "x-openai-account-routing-override": OWN,
    "x-openai-fedramp": OWN,
    "x-codex-routing-hint": "model=gpt-5-codex",
}


@pytest.mark.parametrize("at", [OPENAI, AZURE_V1], ids=["openai", "azure"])
def test_a_codex_login_is_taken_over_by_a_key(at: Upstream) -> None:
    """R03, F01: the same body at another host; the account leaves with the login, the hint follows the model."""
    body = b'{"model":"gpt-5-codex","store":false,"stream":true}'
    got = sent(at, CODEX, body, model="gpt-5", headers=LOGIN)
    assert got.path == f"{at.base_path}/responses"
    assert got.body == body.replace(b"gpt-5-codex", b"gpt-5")
    assert got.headers["x-codex-routing-hint"] == "model=gpt-5"
    assert not {"chatgpt-account-id", "x-openai-account-routing-override", "x-openai-fedramp"} & {*got.headers}
    assert sent(at, CODEX, body, headers=LOGIN).headers["x-codex-routing-hint"] == "model=gpt-5-codex"
    bare = {"authorization": f"Bearer {OWN}"}
    assert "x-codex-routing-hint" not in sent(at, CODEX, body, model="gpt-5", headers=bare).headers


@pytest.mark.parametrize("host", ["api.githubcopilot.com", "api.business.githubcopilot.com"])
def test_a_copilot_login_is_taken_over_by_a_key(host: str) -> None:
    """R03, F01: the integration stays with Copilot's own token; what names the device stays as it is."""
    headers = {"authorization": f"Bearer {OWN}", "copilot-integration-id": OWN, "x-client-machine-id": "device"}
    for endpoint in ("chat/completions", "responses"):
        got = sent(OPENAI, f"https://{host}/{endpoint}", CHAT, headers=headers)
        assert got.path == f"/v1/{endpoint}" and got.body == CHAT
        assert "copilot-integration-id" not in got.headers and got.headers["x-client-machine-id"] == "device"


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("chatgpt.com", "/backend-api/wham/accounts/check"),
        ("chatgpt.com", "/backend-api/codex/models"),
        ("chatgpt.com", "/backend-api/responses"),
        ("chatgpt.com", "/v1/responses"),
        ("auth.openai.com", "/oauth/token"),
        ("api.githubcopilot.com", "/models"),
        ("api.github.com", "/copilot_internal/user"),
        ("telemetry.business.githubcopilot.com", "/chat/completions"),
        ("proxy.githubcopilot.com", "/chat/completions"),
    ],
)
def test_the_side_calls_of_a_login_are_left_alone(host: str, path: str) -> None:
    """R10: account checks and token refreshes keep the tool's own login."""
    assert Sites(pool_of(OPENAI)).recognise(host, 443, "POST", path) is None


def test_the_wide_hosts_belong_to_their_dialect() -> None:
    """O06: chatgpt.com is not looked into for a pool that serves no OpenAI call."""
    assert Sites(pool_of(OPENAI)).pooled("chatgpt.com", 443)
    assert not Sites(pool_of(upstream("anthropic", "api.anthropic.com"))).pooled("chatgpt.com", 443)
    assert not Sites(Pool(upstreams={"o": OPENAI})).pooled("chatgpt.com", 443)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: str(dialect.name))
def test_what_belongs_to_an_identity_leaves_and_is_set_with_it(dialect: Dialect) -> None:
    """R03: the headers of the tool's identity go; those of the candidate's, from the pool file, come."""
    url, at = CALLS[dialect.name]
    headers = dict.fromkeys(dialect.identity_headers, OWN)
    assert not dialect.identity_headers & {*sent(at, url, CHAT, headers=headers).headers}
    for name in dialect.identity_headers:
        asked = sent(at, url, CHAT, headers=headers, own=((name, "pool"),))
        assert asked.headers[name] == "pool"


# -- Gemini and Vertex AI ----------------------------------------------------------------------------------------

GEMINI_CALL = "https://generativelanguage.googleapis.com/v1beta/models/gemini-a"
VERTEX_CALL = "https://europe-west1-aiplatform.googleapis.com/v1beta1/projects/own/locations/europe-west1/publishers"
CONTENTS = b'{ "contents":[{"role":"user","parts":[{"text":"\xc3\xa9 models/gemini-a"}]}], "x" : 1.0}'


@pytest.mark.parametrize("action", ["generateContent", "streamGenerateContent", "countTokens"])
def test_a_gemini_call_goes_to_vertex(action: str) -> None:
    """R02, R03: path and bearer move, the body stays; ``?key=`` and the tool's project leave."""
    headers = {"x-goog-api-key": OWN, "x-goog-user-project": OWN}
    got = sent(VERTEX, f"{GEMINI_CALL}:{action}?alt=sse&key={OWN}", CONTENTS, model="gemini-b", headers=headers)
    assert got.path == f"{PROJECT}/publishers/google/models/gemini-b:{action}?alt=sse"
    assert (got.body, got.headers["authorization"]) == (CONTENTS, f"Bearer {SECRET}")
    assert not {"x-goog-api-key", "x-goog-user-project"} & {*got.headers}
    key = sent(EXPRESS, f"{GEMINI_CALL}:{action}", CONTENTS, secret="AIza-express-0123456789")
    assert key.path == f"/v1/publishers/google/models/gemini-a:{action}"
    assert key.headers["x-goog-api-key"] == "AIza-express-0123456789" and "authorization" not in key.headers


@pytest.mark.parametrize("action", ["generateContent", "streamGenerateContent", "countTokens"])
def test_a_vertex_call_goes_to_gemini(action: str) -> None:
    """R02, R03"""
    url = f"{VERTEX_CALL}/google/models/gemini-a:{action}?alt=sse"
    got = sent(GEMINI, url, CONTENTS, model="models/gemini-b", headers={"authorization": f"Bearer {OWN}"})
    assert got.path == f"/v1beta/models/gemini-b:{action}?alt=sse"
    assert (got.body, got.headers["x-goog-api-key"]) == (CONTENTS, SECRET)
    token = sent(GEMINI, url, CONTENTS, secret="ya29.token-0123456789")
    assert token.headers["authorization"] == "Bearer ya29.token-0123456789"


def test_a_vertex_call_goes_to_another_project() -> None:
    """R02"""
    got = sent(VERTEX, f"{VERTEX_CALL}/google/models/gemini-a:generateContent", CONTENTS)
    assert got.path == f"{PROJECT}/publishers/google/models/gemini-a:generateContent"
    vertex = DIALECTS["vertex"]
    tail = "/publishers/google/models/a:countTokens"
    assert vertex.write_model(tail, "", b"?", "b") == (tail.replace("/a:", "/b:"), b"?")


def test_a_model_in_the_body_does_not_contradict_the_path() -> None:
    """R02"""
    body = b'{"model": "models/gemini-a", "contents": []}'
    assert sent(VERTEX, f"{GEMINI_CALL}:generateContent", body, model="b").body == b'{ "contents": []}'
    broken = b'{"model": '
    assert sent(VERTEX, f"{GEMINI_CALL}:generateContent", broken, model="b").body == broken


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("embedContent", CONTENTS),
        ("batchEmbedContents", CONTENTS),
        ("countTokens", b'{"generateContentRequest": {"model": "models/gemini-a"}}'),
    ],
)
def test_what_vertex_has_in_another_form(action: str, body: bytes) -> None:
    """Content is never translated: such a candidate is passed over."""
    with pytest.raises(ValueError, match=f"vertex takes no {action}"):
        sent(VERTEX, f"{GEMINI_CALL}:{action}", body)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/projects/p/locations/l/publishers/google/models/m:predict",
        "/v1/projects/p/locations/l/publishers/google/models/m:embedContent",
        "/v1/projects/p/locations/l/publishers/mistral/models/m:rawPredict",
        "/v1/projects/p/locations/l/endpoints/1:generateContent",
        "/v1/projects/p/locations/l/publishers/google/models/a%2Fb:generateContent",
        "/v1/projects/p/publishers/google/models/m:generateContent",
        "/v1/projects/p/x/locations/l/publishers/google/models/m:generateContent",
        "/v2/projects/p/locations/l/publishers/google/models/m:generateContent",
        "/v1/projects/p/locations/l/cachedContents",
        "/v1/projects/p/locations/l/publishers/anthropic/models/m:predict",
        "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:streamRawPredict",
        "/v1/projects/p/locations/l/publishers/anthropic/models/..:rawPredict",
    ],
)
def test_what_is_no_call_to_vertex(path: str) -> None:
    """R10"""
    sites = Sites(pool_of(VERTEX, CLAUDE_VERTEX))
    for host in (
        "aiplatform.googleapis.com",
        "us-central1-aiplatform.googleapis.com",
        "aiplatform.eu.rep.googleapis.com",
    ):
        assert sites.pooled(host, 443) and sites.recognise(host, 443, "POST", path) is None


# -- Anthropic's messages on Vertex AI ---------------------------------------------------------------------------


def test_a_message_goes_to_vertex() -> None:
    """R02, R03: the model moves to the path and the version into the body; nothing else does."""
    got = sent(CLAUDE_VERTEX, f"{MESSAGES}?beta=true", MESSAGE, model="claude-b@20260101", headers=HELD_BACK)
    assert got.path == f"{PROJECT}/publishers/anthropic/models/claude-b@20260101:streamRawPredict"
    version = b'{"anthropic_version": "vertex-2023-10-16", "max_tokens": 1, "stream": true'
    assert got.body == MESSAGE.replace(b'{"model": "claude-a","max_tokens": 1, "stream": true', version)
    assert got.headers["authorization"] == f"Bearer {SECRET}" and "x-api-key" not in got.headers
    assert got.headers["anthropic-beta"] == "a-1"
    plain = sent(CLAUDE_VERTEX, MESSAGES, MESSAGE.replace(b"true", b"false"))
    assert plain.path == f"{PROJECT}/publishers/anthropic/models/claude-a:rawPredict"


def test_a_token_count_goes_to_vertex() -> None:
    """X04: there the model stays in the body."""
    got = sent(CLAUDE_VERTEX, f"{MESSAGES}/count_tokens?beta=true", MESSAGE, model="claude-b")
    assert got.path == f"{PROJECT}/publishers/anthropic/models/count-tokens:rawPredict"
    assert got.body == MESSAGE.replace(b'"model": "claude-a"', b'"model": "claude-b"')


ON_VERTEX = b'{"anthropic_version":"vertex-2023-10-16","max_tokens": 1, "messages": []}'


@pytest.mark.parametrize(
    ("action", "added"), [("rawPredict", b""), ("streamRawPredict", b', "stream": true')], ids=["plain", "streamed"]
)
def test_a_message_on_vertex_goes_to_anthropic(action: str, added: bytes) -> None:
    """R02, R03"""
    got = sent(CLAUDE, f"{VERTEX_CALL}/anthropic/models/claude-b%40x:{action}", ON_VERTEX, model="claude-a")
    assert got.path == "/v1/messages"
    assert got.body == b'{"model": "claude-a"' + added + b', "max_tokens": 1, "messages": []}'
    assert (got.headers["x-api-key"], got.headers["anthropic-version"]) == (SECRET, "2023-06-01")
    headers = {"anthropic-version": "2024-01-01"}
    stated = sent(CLAUDE, f"{VERTEX_CALL}/anthropic/models/claude-b:{action}", ON_VERTEX, headers=headers)
    assert stated.headers["anthropic-version"] == "2024-01-01"


def test_a_count_on_vertex_goes_to_anthropic() -> None:
    """X04"""
    url = f"{VERTEX_CALL}/anthropic/models/count-tokens:rawPredict"
    got = sent(CLAUDE, url, b'{"model":"claude-b","messages":[]}', model="claude-a")
    assert (got.path, got.body) == ("/v1/messages/count_tokens", b'{"model":"claude-a","messages":[]}')
    again = sent(CLAUDE_VERTEX, url, b'{"model":"claude-b","messages":[]}', model="claude-a")
    assert again.path == f"{PROJECT}/publishers/anthropic/models/count-tokens:rawPredict"


def test_a_message_on_vertex_goes_to_another_project() -> None:
    """R01, R02: its body stays to the byte."""
    got = sent(CLAUDE_VERTEX, f"{VERTEX_CALL}/anthropic/models/claude-a:streamRawPredict", ON_VERTEX, model="claude-b")
    assert (got.path, got.body) == (f"{PROJECT}/publishers/anthropic/models/claude-b:streamRawPredict", ON_VERTEX)
    dialect, tail = DIALECTS["anthropic-vertex"], "/publishers/anthropic/models/a:rawPredict"
    assert dialect.write_model(tail, "", b"?", "b") == (tail.replace("/a:", "/b:"), b"?")
    counted = "/publishers/anthropic/models/count-tokens:rawPredict"
    assert dialect.write_model(counted, "", b'{"model":"a"}', "b") == (counted, b'{"model":"b"}')
    with pytest.raises(ValueError):
        dialect.write_model("/elsewhere", "", b"{}", "b")


@given(text=st.text(max_size=8), extra=st.dictionaries(st.text("abc_", min_size=1), st.integers(), max_size=3))
def test_messages_there_and_back(text: str, extra: dict[str, int]) -> None:
    """R01: Anthropic -> Vertex -> Anthropic says what was sent."""
    body = json.dumps({**extra, "model": "m", "stream": True, "system": text}).encode()
    there = sent(CLAUDE_VERTEX, MESSAGES, body, model="m@1")
    back = sent(CLAUDE, f"https://{CLAUDE_VERTEX.host}{there.path}", there.body, model="m")
    assert json.loads(back.body) == json.loads(body)


CALLS = {
    "openai": (CODEX, OPENAI),
    "azure-openai": (AZURE_CALL, AZURE),
    "anthropic": (MESSAGES, CLAUDE),
    "anthropic-vertex": (f"{VERTEX_CALL}/anthropic/models/a:rawPredict", CLAUDE_VERTEX),
    "gemini": (f"{GEMINI_CALL}:generateContent", GEMINI),
    "vertex": (f"{VERTEX_CALL}/google/models/a:generateContent", VERTEX),
    "bedrock": ("https://bedrock-runtime.x.amazonaws.com/model/a/converse", upstream("bedrock", "b.example")),
    "cohere": ("https://api.cohere.com/v2/chat", upstream("cohere", "c.example")),
    "ollama": ("https://ollama.com/api/chat", upstream("ollama", "o.example")),
}
"""A call of each dialect and an upstream for it."""
