"""The tool's credential out, the candidate's in; what other addons see is a placeholder."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from tests.support.decisions import Source, upstream
from understudy.config.secrets.client import ClientSecret
from understudy.dialects import DIALECTS, Call, Dialect
from understudy.model import SigningSource
from understudy.model.pool import Candidate, Credential, Pool, Upstream
from understudy.requests import rewrite
from understudy.requests.rewrite import CLIENT, Stash
from understudy.requests.sealed import Shape
from understudy.requests.sites import Recognised, Sites

OWN = "sk-own-of-the-tool-0123"
SECRET = "sk-secret-0123456789"
BODY = b'{ "model" : "gpt-5", "stream":false,"n": 1.0, "n":1e2 ,"messages":[{"model":"gpt-5"}]}'
OPENAI = upstream("openai", host="api.openai.com")
CORP = Upstream("corp", "openai", "https", "llm.corp", 8443, "/gateway/v1")
CLAUDE = Upstream("claude", "anthropic", "https", "claude.corp", 443)
GOOGLE = Upstream("google", "gemini", "https", "gemini.corp", 443, "/g")
POOL = Pool(upstreams={each.name: each for each in (OPENAI, CORP, CLAUDE, GOOGLE)})
SITES = Sites(POOL)
GEMINI_PATH = "/v1beta/models/gemini-pro:generateContent"
PLACES = [
    ("api.openai.com", "/v1/chat/completions", BODY),
    ("api.anthropic.com", "/v1/messages", b'{"model":"claude-x","max_tokens":1}'),
    ("generativelanguage.googleapis.com", GEMINI_PATH, b'{"contents":[]}'),
]


def request(
    host: str = "api.openai.com",
    path: str = "/v1/chat/completions",
    body: bytes = BODY,
    *,
    headers: dict[str, str] | None = None,
    version: str = "HTTP/1.1",
) -> http.Request:
    """A request as a tool sends it."""
    made = http.Request.make("POST", f"https://{host}{path}", body, http.Headers(content_type="application/json"))
    made.http_version = version
    if made.is_http2 or made.is_http3:
        made.authority = host
        made.headers.pop("host", None)
    else:
        made.headers["Host"] = host
    for name, value in (headers or {}).items():
        made.headers[name] = value
    return made


def recognise(asked: http.Request) -> tuple[Recognised, Call]:
    recognised = SITES.recognise(asked.host, 443, "POST", asked.path)
    assert recognised is not None
    call = rewrite.read_call(asked, recognised, rewrite.decoded_body(asked))
    assert call is not None
    return recognised, call


def built(
    asked: http.Request,
    at: Upstream = CORP,
    *,
    model: str = "",
    secret: str = SECRET,
    headers: tuple[tuple[str, str], ...] = (),
) -> http.Request:
    """The request as a candidate gets it; without a model the alias keeps its name."""
    recognised, call = recognise(asked)
    candidate = Candidate(Credential("a", at, Source(secret), headers), model or call.alias)
    return rewrite.build(asked, recognised, call, candidate, secret)


def wire(sent: http.Request) -> str:
    """Everything of a request that an upstream sees."""
    return repr((sent.data.path, sent.data.host, sent.data.authority, sent.headers.fields, sent.data.content))


# -- the credential ----------------------------------------------------------------------------------------------

CARRIERS = [
    {"authorization": f"Bearer {OWN}"},
    {"Authorization": f"bearer {OWN}"},
    {"AUTHORIZATION": OWN},
    {"x-api-key": OWN},
    {"api-key": OWN},
    {"x-goog-api-key": OWN},
    {"authorization": f"Bearer {OWN}", "x-api-key": OWN, "Api-Key": OWN},
    {"cookie": f"session={OWN}"},
    {"proxy-authorization": f"Basic {OWN}"},
]


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: "+".join(carrier))
@pytest.mark.parametrize(("host", "path", "body"), PLACES, ids=["openai", "anthropic", "gemini"])
def test_the_tools_credential_leaves_from_every_place(
    host: str, path: str, body: bytes, carrier: dict[str, str]
) -> None:
    """R03, R05: whatever header carried it; the candidate's own stands in the one place of its dialect."""
    at = {"api.openai.com": CORP, "api.anthropic.com": CLAUDE}.get(host, GOOGLE)
    sent = built(request(host, path, body, headers=carrier), at)
    assert OWN not in wire(sent)
    assert wire(sent).count(SECRET) == 1


@pytest.mark.parametrize("name", ["key", "KEY", "%6bey", "access_token", "$key", "+key"])
def test_the_credential_in_the_query_leaves(name: str) -> None:
    """R03, R04: however its name is spelled; the other parameters stay as they were."""
    asked = request("generativelanguage.googleapis.com", f"{GEMINI_PATH}?alt=sse&{name}={OWN}&q=a%20b", b"{}")
    sent = built(asked, GOOGLE)
    assert sent.path == f"/g{GEMINI_PATH}?alt=sse&q=a%20b"
    assert OWN not in wire(sent)


def test_what_belongs_to_the_old_identity_leaves_with_it() -> None:
    """R03: the tool's organisation is gone, the candidate's own headers are there once."""
    asked = request(headers={"OpenAI-Organization": "org-tool", "openai-project": "p", "chatgpt-account-id": "1"})
    sent = built(asked, headers=(("openai-organization", "org-pool"), ("x-team", "t")))
    assert sent.headers.get_all("openai-organization") == ["org-pool"]
    assert sent.headers["x-team"] == "t"
    assert "openai-project" not in sent.headers
    assert "chatgpt-account-id" not in sent.headers


def test_a_flag_of_the_old_identity_leaves_and_the_others_stay() -> None:
    """R03: the flag of a subscription login must not go along with an API key, and has to with another login."""
    own = {"anthropic-beta": "tools-1,oauth-2025-04-20", "authorization": f"Bearer {OWN}"}
    asked = request("api.anthropic.com", "/v1/messages", b'{"model":"claude-x"}', headers=own)
    keyed = built(asked, CLAUDE)
    assert (keyed.headers["anthropic-beta"], keyed.headers["x-api-key"]) == ("tools-1", SECRET)
    assert "authorization" not in keyed.headers
    login = built(asked, CLAUDE, secret="sk-ant-oat-0123456789")
    assert login.headers["authorization"] == "Bearer sk-ant-oat-0123456789"
    assert login.headers["anthropic-beta"] == "tools-1,oauth-2025-04-20"
    alone = request(
        "api.anthropic.com", "/v1/messages", b'{"model":"c"}', headers={"anthropic-beta": "oauth-2025-04-20"}
    )
    assert "anthropic-beta" not in built(alone, CLAUDE).headers


def test_two_candidates_never_see_each_others_secret() -> None:
    """R05: every attempt is a copy of the tool's request: nothing of one is left for the next."""
    asked = request(headers={"authorization": f"Bearer {OWN}"})
    before = wire(asked)
    first = built(asked, CORP, secret="sk-first-0123456789", headers=(("openai-organization", "org-first"),))
    second = built(asked, OPENAI, secret="sk-second-0123456789")
    assert wire(asked) == before
    assert "first" not in wire(second)
    assert "second" not in wire(first)
    assert OWN not in wire(first) + wire(second)
    assert ((first.host, first.port), (second.host, second.port)) == (("llm.corp", 8443), ("api.openai.com", 443))


# -- the target --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2.0", "HTTP/3"])
def test_host_and_path_are_the_upstreams(version: str) -> None:
    """R05: scheme, host, port, base path and every header that names them."""
    sent = built(request(version=version))
    assert sent.path == "/gateway/v1/chat/completions"
    assert (sent.scheme, sent.host, sent.port, sent.http_version) == ("https", "llm.corp", 8443, version)
    assert "api.openai.com" not in wire(sent)
    if version == "HTTP/1.1":
        assert sent.headers.get_all("host") == ["llm.corp:8443"]
        assert sent.authority == ""
    else:
        assert "host" not in sent.headers
        assert sent.authority == "llm.corp:8443"


def test_everything_else_goes_along() -> None:
    """R01: the other headers, the method, the trailers."""
    asked = request(headers={"x-stainless-retry-count": "0", "User-Agent": "tool/1", "accept-encoding": "br"})
    asked.trailers = http.Headers(x_end="1")
    sent = built(asked)
    for name in ("x-stainless-retry-count", "user-agent", "content-type", "accept-encoding"):
        assert sent.headers[name] == asked.headers[name]
    assert (sent.method, sent.trailers) == ("POST", asked.trailers)


def test_a_stream_is_asked_for_uncompressed() -> None:
    """S08: its end is judged from its last bytes."""
    asked = request(body=b'{"model":"gpt-5","stream":true}', headers={"accept-encoding": "br, gzip"})
    assert built(asked).headers["accept-encoding"] == "identity"


# -- the model ---------------------------------------------------------------------------------------------------


def test_only_the_model_changes() -> None:
    """R01: numbers, spacing, duplicate keys and nested `model` keys survive; the length follows."""
    sent = built(request(), model="openai/gpt-5")
    assert sent.data.content == BODY.replace(b'"gpt-5"', b'"openai/gpt-5"', 1)
    assert sent.headers["content-length"] == str(len(BODY) + len("openai/"))


def test_without_another_model_the_bytes_are_the_same() -> None:
    """R01: nothing is decoded or encoded anew, not even a compressed body."""
    packed = gzip.compress(BODY)
    asked = request(body=packed, headers={"content-encoding": "gzip"})
    sent = built(asked)
    assert (sent.data.content, sent.headers["content-encoding"]) == (packed, "gzip")
    assert sent.headers["content-length"] == str(len(packed))


def test_a_compressed_body_is_sent_plain_when_its_model_changes() -> None:
    """R02: compressed bodies."""
    asked = request(body=gzip.compress(BODY), headers={"content-encoding": "gzip"})
    sent = built(asked, model="other")
    assert sent.data.content == BODY.replace(b'"gpt-5"', b'"other"', 1)
    assert "content-encoding" not in sent.headers
    assert sent.headers["content-length"] == str(len(sent.data.content or b""))


def test_a_model_in_the_path_changes_there() -> None:
    """R02: Gemini; the name is quoted, so that it stays one path segment."""
    asked = request("generativelanguage.googleapis.com", GEMINI_PATH, b'{"contents":[]}')
    assert built(asked, GOOGLE, model="gemini-flash").path == "/g/v1beta/models/gemini-flash:generateContent"
    assert built(asked, GOOGLE, model="a/b").path == "/g/v1beta/models/a%2Fb:generateContent"


def test_a_model_in_a_form_changes_there() -> None:
    """R02: multipart."""
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--\r\n'
    asked = request(
        path="/v1/audio/transcriptions", body=form, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert built(asked, model="whisper-2").data.content == form.replace(b"whisper-1", b"whisper-2")


def test_a_body_that_cannot_be_read_is_not_a_call() -> None:
    """Law 9: it passes untouched; and should it change on the way, it is not sent half rewritten."""
    asked = request(body=b"garbage", headers={"content-encoding": "gzip"})
    recognised = SITES.recognise("api.openai.com", 443, "POST", asked.path)
    assert recognised is not None
    assert rewrite.decoded_body(asked) is None
    assert rewrite.read_call(asked, recognised, None) is None
    candidate = Candidate(Credential("a", CORP, Source()), "other")
    with pytest.raises(ValueError, match="cannot be decoded"):
        rewrite.build(asked, recognised, Call("gpt-5", False), candidate, SECRET)


# -- the placeholder ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: "+".join(carrier))
def test_nobody_else_sees_the_tools_credential(carrier: dict[str, str]) -> None:
    """R07: before any other addon sees the request, a placeholder stands in its place; the scheme stays readable."""
    asked = request(headers=carrier)
    before = asked.headers.fields
    stash = rewrite.mask(asked, DIALECTS["openai"])
    assert OWN not in wire(asked)
    assert OWN not in repr(stash)
    assert rewrite.carries_placeholder(asked)
    rewrite.unmask(asked, stash)
    assert asked.headers.fields == before
    assert not rewrite.carries_placeholder(asked)


def test_the_scheme_stays_readable_and_nothing_more() -> None:
    """R07: what stands before a space is shown only where it can be a scheme."""
    asked = request(headers={"authorization": f"Bearer {OWN}", "x-api-key": f"{OWN} and more"})
    rewrite.mask(asked, DIALECTS["openai"])
    assert asked.headers["authorization"] == f"Bearer {CLIENT}"
    assert asked.headers["x-api-key"] == CLIENT


def test_two_credentials_in_one_header_both_come_back() -> None:
    """R10: law 9: a call without a route goes out exactly as the tool sent it."""
    asked = request()
    asked.headers.set_all("authorization", ["Bearer first-0123456", "Bearer second-0123456"])
    asked.headers["x-note"] = CLIENT
    before = asked.headers.fields
    stash = rewrite.mask(asked, DIALECTS["openai"])
    rewrite.unmask(asked, stash)
    assert asked.headers.fields == before


def test_what_another_addon_changed_meanwhile_stays_changed() -> None:
    asked = request(headers={"authorization": f"Bearer {OWN}"})
    stash = rewrite.mask(asked, DIALECTS["openai"])
    asked.headers["authorization"] = "Bearer of-the-addon"
    asked.headers["x-new"] = "1"
    rewrite.unmask(asked, stash)
    assert (asked.headers["authorization"], asked.headers["x-new"]) == ("Bearer of-the-addon", "1")


def test_a_credential_in_the_query_is_masked_and_can_be_sent_again() -> None:
    """R04: `?key=` is never in a flow; an unrouted request still goes out with it."""
    path = f"{GEMINI_PATH}?a=1&key={OWN}&%24key=x%2Fy&key="
    asked = request("generativelanguage.googleapis.com", path, b"{}")
    values = rewrite.mask_query(asked, [DIALECTS["gemini"]])
    assert values == (OWN.encode(), b"x%2Fy")
    assert OWN not in wire(asked)
    assert rewrite.carries_placeholder(asked)
    revealed = rewrite.reveal(asked, Stash((), values))
    assert revealed.path == path
    assert OWN not in wire(asked)


def test_another_dialects_query_is_left_alone() -> None:
    asked = request(path=f"/v1/chat/completions?key={OWN}")
    assert rewrite.mask_query(asked, [DIALECTS["openai"]]) == ()
    assert asked.path.endswith(OWN)


def test_an_ordinary_request_carries_no_placeholder() -> None:
    assert not rewrite.carries_placeholder(request(headers={"user-agent": "understudy/1 <b>"}))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"X-Api-Key", b"x-other", b"api-key"]),
            st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=20).map(
                lambda text: text.encode("latin-1")
            ),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_masking_is_undone_exactly(fields: list[tuple[bytes, bytes, bool]]) -> None:
    """R10: whatever the tool sent, in whatever order and number."""
    asked = request()
    sent = tuple((name, b"Bearer " + value if scheme else value) for name, value, scheme in fields)
    asked.headers.fields = sent
    stash = rewrite.mask(asked, DIALECTS["openai"])
    for (name, _), (_, value) in zip(sent, asked.headers.fields, strict=True):
        assert (CLIENT.encode() in value) is (name != b"x-other")
    rewrite.unmask(asked, stash)
    assert asked.headers.fields == sent


def test_a_body_names_its_alias() -> None:
    recognised, call = recognise(request(body=json.dumps({"model": "gpt-5", "stream": True}).encode()))
    assert (call, recognised.tail) == (Call("gpt-5", True), "/chat/completions")


# -- the tool's own credential as a candidate ------------------------------------------------------------------------


def sent_own(asked: http.Request, at: Upstream, *, model: str = "", cut: str = "") -> http.Request:
    """A call as it goes out with the tool's own credential; ``cut``: a header that another addon has taken out."""
    recognised, call = recognise(asked)
    stash = rewrite.mask(asked, recognised.dialect)
    assert OWN not in wire(asked), "what other addons see"
    if cut:
        del asked.headers[cut]
    candidate = Candidate(Credential("own", at, ClientSecret()), model or call.alias)
    return rewrite.build(asked, recognised, call, candidate, "", stash)


@pytest.mark.parametrize("carrier", CARRIERS[:-1], ids=lambda carrier: "+".join(carrier))
@pytest.mark.parametrize("http_version", ["HTTP/1.1", "HTTP/2.0"])
def test_the_tools_own_goes_out_as_it_came(carrier: dict[str, str], http_version: str) -> None:
    """R05: every header in its place and spelling, to the byte."""
    headers = {
        "x-first": "1",
        **carrier,
        "openai-organization": "org-of-the-tool",
        "accept-encoding": "br",
        "x-last": "2",
    }
    asked = request(headers=headers, version=http_version)
    before = asked.copy()
    sent = sent_own(asked, OPENAI)
    assert [field for field in sent.headers.fields if field[0].lower() != b"content-length"] == [
        field for field in before.headers.fields if field[0].lower() != b"content-length"
    ]
    assert (sent.path, sent.data.content) == (before.path, before.data.content)


def test_only_the_model_of_the_tools_own_call_changes() -> None:
    """R01, R02: in the body, and in a path beside the tool's own key."""
    sent = sent_own(request(headers={"authorization": f"Bearer {OWN}"}), OPENAI, model="gpt-6")
    assert sent.data.content == BODY.replace(b'"gpt-5"', b'"gpt-6"', 1)
    assert sent.headers["content-length"] == str(len(BODY))
    path = f"{GEMINI_PATH}?a=%20b&key={OWN}&alt=json"
    google = Upstream("google", "gemini", "https", "generativelanguage.googleapis.com", 443)
    sent = sent_own(request("generativelanguage.googleapis.com", path, b"{}"), google, model="gemini-2")
    assert sent.path == path.replace("gemini-pro", "gemini-2")


def test_what_was_for_the_proxy_goes_to_no_upstream() -> None:
    """Law 8: the password of a proxy is not for the upstream behind it."""
    headers = {"proxy-authorization": f"Basic {OWN}", "x-api-key": "sk-another-0123456789"}
    assert OWN not in wire(sent_own(request(headers=headers), OPENAI))


def test_a_header_that_an_addon_took_out_does_not_come_back() -> None:
    headers = {"authorization": f"Bearer {OWN}", "x-api-key": "sk-another-0123456789"}
    sent = sent_own(request(headers=headers), OPENAI, cut="authorization")
    assert OWN not in wire(sent)
    assert sent.headers["x-api-key"] == "sk-another-0123456789"


def test_a_placeholder_is_never_sent_for_the_tools_own() -> None:
    """Law 8: a saved flow has nothing but placeholders, and one that got this far must not get further."""
    asked = request(headers={"authorization": "Bearer <understudy:client>"})
    recognised, call = recognise(asked)
    candidate = Candidate(Credential("own", OPENAI, ClientSecret()), call.alias)
    with pytest.raises(ValueError, match="placeholder"):
        rewrite.build(asked, recognised, call, candidate, "", Stash())


def test_a_stream_of_the_tools_own_comes_uncompressed() -> None:
    """S04: the end of a stream is read from its last bytes, whoever's credential it was."""
    body = b'{"model":"gpt-5","stream":true}'
    sent = sent_own(request(body=body, headers={"x-api-key": OWN, "accept-encoding": "gzip, br"}), OPENAI)
    assert sent.headers["accept-encoding"] == "identity"


def test_by_what_a_tool_is_known() -> None:
    """Its keys without their schemes; neither cookies, which change, nor what it tells the proxy."""
    fields = (
        (b"authorization", f"Bearer {OWN}".encode()),
        (b"x-api-key", b"sk-another-0123456789"),
        (b"api-key", b""),
        (b"x-goog-api-key", b"Bearer"),
        (b"cookie", b"theme=accepted; session=0123456789abcdef"),
        (b"proxy-authorization", b"Basic cHJveHk6cGFzc3dvcmQ="),
    )
    stash = Stash(fields, (b"AIza-in-the-query",))
    assert stash.credentials == (OWN.encode(), b"sk-another-0123456789", b"AIza-in-the-query")
    assert stash.secrets == (OWN, "sk-another-0123456789", "AIza-in-the-query", "0123456789abcdef")
    assert Stash().credentials == ()


def test_what_was_sent_can_be_shown() -> None:
    """Law 8: every place of a credential shows its name, however short the secret; elsewhere it is masked."""
    fields = (
        (b"Authorization", b"Bearer abc"),
        (b"x-api-key", b"abc"),
        (b"x-other", b"say sk-0123456789"),
        (b"a", b"b"),
    )
    dialects = [DIALECTS["openai"], DIALECTS["gemini"]]
    assert rewrite.shown_fields(fields, dialects, "home", lambda value: value.replace(b"sk-0123456789", b"-")) == (
        (b"Authorization", b"Bearer <understudy:home>"),
        (b"x-api-key", b"<understudy:home>"),
        (b"x-other", b"say -"),
        (b"a", b"b"),
    )


# -- framing between versions ------------------------------------------------------------------------------------


def test_r09_a_body_without_a_length_gets_one() -> None:
    """R09, S10: HTTP/2 needs no length; an HTTP/1 upstream would take the body for the next request."""
    asked = request(version="HTTP/2.0")
    asked.headers.pop("content-length", None)
    sent = built(asked)
    assert sent.headers["content-length"] == str(len(sent.data.content or b""))


def test_r09_a_length_is_that_of_the_body_that_is_sent() -> None:
    """R09: a renamed model changes it; a chunked body keeps its framing and gets none beside it."""
    sent = built(request(), model="another-model-name")
    assert sent.headers["content-length"] == str(len(sent.data.content or b""))
    chunked = request(headers={"transfer-encoding": "chunked"})
    chunked.headers.pop("content-length", None)
    sent = built(chunked, model="another-model-name")
    assert "content-length" not in sent.headers
    assert sent.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2.0", "HTTP/3"])
def test_s10_the_host_is_the_upstreams_in_the_form_of_each_version(version: str) -> None:
    """S10: HTTP/1 needs a Host header; HTTP/2 has an authority, and a Host that the tool sent beside it follows."""
    sent = built(request(version=version))
    place = f"{CORP.host}:{CORP.port}"
    assert sent.data.authority == (b"" if version == "HTTP/1.1" else place.encode())
    assert sent.headers.get("host") == (place if version == "HTTP/1.1" else None)
    if version != "HTTP/1.1":
        asked = request(version=version)
        asked.headers["host"] = "api.openai.com"
        assert built(asked).headers["host"] == place


# -- what is kept for later ------------------------------------------------------------------------------------------


def test_a_cookie_is_a_secret_where_it_can_only_be_one() -> None:
    """Law 8: sixteen characters; ordinary words stay readable. What was sent twice is masked once."""
    fields = ((b"Cookie", b"a=0123456789abcde; b=0123456789abcdef,c"), (b"cookie", b"b=0123456789abcdef"))
    assert Stash(fields).secrets == ("0123456789abcdef",)
    assert Stash(((b"x-api-key", b" spaced-key "),)).credentials == (b"spaced-key",)
    assert Stash(((b"x-api-key", b"two words"), (b"api-key", b"k3y with a digit"))).credentials == (
        *(b"words", b"k3y with a digit"),
    )
    assert Stash(((b"authorization", b"Bearer  "), (b"api-key", b"BASIC")), (b"", b"key")).credentials == (b"key",)


def test_a_header_that_mitmproxy_reads_itself_is_spared() -> None:
    """A proxy with a password takes its own header out."""
    asked = request(headers={"proxy-authorization": f"Basic {OWN}", "authorization": f"Bearer {OWN}"})
    stash = rewrite.mask(asked, DIALECTS["openai"], "proxy-authorization")
    assert [name for name, _ in stash.fields] == [b"authorization"]
    assert asked.headers["proxy-authorization"] == f"Basic {OWN}"


def test_a_value_of_the_query_takes_the_place_of_its_own_placeholder() -> None:
    """R04: one after the other, and a placeholder of the tool's own stays behind them."""
    path = f"{GEMINI_PATH}?key=one&%24key=two"
    asked = request("generativelanguage.googleapis.com", path, b"{}")
    values = rewrite.mask_query(asked, [DIALECTS["gemini"]])
    asked.path += f"&note={rewrite.QUOTED_CLIENT.decode()}"
    revealed = rewrite.reveal(asked, Stash((), values))
    assert revealed.path == f"{path}&note={rewrite.QUOTED_CLIENT.decode()}"


def test_the_state_of_another_account_leaves_and_the_tools_request_keeps_it() -> None:
    """E04: by its value; another state of the same header stays."""
    asked = request(headers={"x-other": "state-of-a"})
    asked.headers.set_all("x-codex-turn-state", ["state-of-a", "state-of-b"])
    before = asked.headers.fields
    bare = rewrite.without_states(asked, ["state state-of-a"])
    assert bare.headers.get_all("x-codex-turn-state") == ["state-of-b"]
    assert bare.headers["x-other"] == "state-of-a"
    assert asked.headers.fields == before


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("has_length", [False, True])
def test_a_request_without_its_sealed_parts_is_framed_anew(packed: bool, has_length: bool) -> None:
    """E03: uncompressed, with its length where it had one; the tool's request is not touched."""
    body = b'{"model":"m","input":[{"type":"reasoning","id":"rs_0123456789"},{"role":"user"}]}'
    asked = request(
        body=gzip.compress(body) if packed else body, headers={"content-encoding": "gzip"} if packed else {}
    )
    if not has_length:
        asked.headers.pop("content-length", None)
    before = wire(asked)
    bare, count = rewrite.unsealed(asked, Shape.RESPONSES, lambda name: True)
    assert (count, bare.data.content) == (1, b'{"model":"m","input":[{"role":"user"}]}')
    assert bare.headers.get("content-length") == (str(len(bare.data.content or b"")) if has_length else None)
    assert "content-encoding" not in bare.headers
    assert wire(asked) == before
    same, count = rewrite.unsealed(asked, Shape.RESPONSES, lambda name: False)
    assert same is asked and count == 0


def test_a_body_that_cannot_be_decoded_has_no_parts_to_take_out() -> None:
    asked = request(body=b"garbage", headers={"content-encoding": "gzip"})
    with pytest.raises(ValueError, match="cannot be decoded"):
        rewrite.unsealed(asked, Shape.RESPONSES, lambda name: True)


# -- what a candidate adds -------------------------------------------------------------------------------------------


def hinted(dialect: Dialect, headers: dict[str, str]) -> tuple[Recognised, Call, http.Request]:
    """A call of a dialect with these headers."""
    tail = "/v1/messages" if dialect.name == "anthropic" else "/chat/completions"
    endpoint = dialect.endpoint("POST", tail)
    assert endpoint is not None
    return (
        Recognised(dialect, endpoint, tail, ""),
        Call("m-1", False),
        request(path=tail, body=b'{"model":"m-1"}', headers=headers),
    )


def test_a_hint_of_the_model_in_a_header_follows_the_model() -> None:
    """R02: where the tool sent none, none is added."""
    dialect = DIALECTS["openai"]
    assert dialect.model_header
    at = Upstream("there", dialect.name, "https", "claude.corp", 443)
    for hint, expected in (("model=m-1;x", "model=m-2;x"), ("model=other", "model=other"), ("", None)):
        headers = {dialect.model_header.title(): hint} if hint else {}
        recognised, call, asked = hinted(dialect, headers)
        candidate = Candidate(Credential("a", at, Source()), "m-2")
        sent = rewrite.build(asked, recognised, call, candidate, SECRET)
        assert sent.headers.get(dialect.model_header) == expected
        same = rewrite.build(asked, recognised, call, replace(candidate, model=call.alias), SECRET)
        assert same.headers.get(dialect.model_header) == (hint or None)


def test_secret_headers_of_a_credential_go_along_in_place_of_the_tools() -> None:
    """R05: each once, whatever the tool sent by that name; an empty value takes the header out."""
    asked = request(headers={"X-Team": "of the tool", "x-gone": "1"})
    headers = (("x-team", ""), ("X-Gone", ""))
    recognised, call = recognise(asked)
    credential = Credential("a", CORP, Source(), headers, secret_headers=(("x-extra", Source("sk-extra-0123456789")),))
    sent = rewrite.build(asked, recognised, call, Candidate(credential, call.alias), SECRET)
    assert "x-team" not in sent.headers and "x-gone" not in sent.headers
    assert sent.headers.get_all("x-extra") == ["sk-extra-0123456789"]


def test_a_reply_that_has_to_be_read_comes_uncompressed() -> None:
    """W03: also of a call that is no stream."""
    asked = request(headers={"accept-encoding": "br"})
    recognised, call = recognise(asked)
    candidate = Candidate(Credential("a", CORP, Source()), call.alias)
    for readable, expected in ((True, "identity"), (False, "br")):
        sent = rewrite.build(asked, recognised, call, candidate, SECRET, readable=readable)
        assert sent.headers["accept-encoding"] == expected


def test_a_request_without_a_body_gets_no_length() -> None:
    """R09: there is nothing to be told."""
    asked = request(version="HTTP/2.0", body=b"")
    asked.headers.pop("content-length", None)
    recognised = SITES.recognise(asked.host, 443, "POST", asked.path)
    assert recognised is not None
    candidate = Candidate(Credential("a", CORP, Source()), "gpt-5")
    sent = rewrite.build(asked, recognised, Call("gpt-5", False), candidate, SECRET)
    assert "content-length" not in sent.headers


def test_a_model_that_changes_a_body_without_a_length_adds_that_of_the_new_one() -> None:
    """R09: HTTP/2 again, with a rename and a compressed body."""
    asked = request(version="HTTP/2.0", body=gzip.compress(BODY), headers={"content-encoding": "gzip"})
    asked.headers.pop("content-length", None)
    sent = built(asked, model="other")
    assert sent.headers["content-length"] == str(len(sent.data.content or b""))
    assert "content-encoding" not in sent.headers


class Signer(SigningSource):
    """A source that signs, and remembers what."""

    is_client = refreshable = False
    __slots__ = ("signed",)

    def __init__(self) -> None:
        self.signed: list[tuple[object, ...]] = []

    def reveal(self) -> str:
        return SECRET

    def sign(self, method: str, url: str, host: str, content_type: str, body: bytes) -> tuple[tuple[str, str], ...]:
        self.signed.append((method, url, host, content_type, body))
        return (("authorization", "AWS4 signature"), ("x-amz-date", "20260101T000000Z"))


def test_a_signature_is_made_of_what_is_sent_and_stands_in_place_of_the_credential() -> None:
    """R05: the last thing that is done, over the new path, host and body; the secret itself is not sent."""
    signer = Signer()
    asked = request(headers={"authorization": f"Bearer {OWN}", "X-Amz-Date": "of the tool"})
    recognised, call = recognise(asked)
    candidate = Candidate(Credential("a", CORP, signer), "other")
    sent = rewrite.build(asked, recognised, call, candidate, SECRET)
    url = "https://llm.corp:8443/gateway/v1/chat/completions"
    assert signer.signed == [("POST", url, "llm.corp", "application/json", sent.data.content)]
    assert sent.headers.get_all("authorization") == ["AWS4 signature"]
    assert sent.headers.get_all("x-amz-date") == ["20260101T000000Z"]
    assert SECRET not in wire(sent) and OWN not in wire(sent)


def test_law_8_what_a_credentials_secret_headers_hold_is_not_shown() -> None:
    """Law 8: whatever case they are written in."""
    fields = ((b"X-Extra", b"abc"), (b"x-other", b"abc"))
    shown = rewrite.shown_fields(fields, [DIALECTS["openai"]], "home", lambda value: value, ["x-extra"])
    assert shown == ((b"X-Extra", b"<understudy:home>"), (b"x-other", b"abc"))


def test_a_path_may_speak_of_this_program() -> None:
    """R04: only what stands for a credential is a placeholder."""
    assert not rewrite.carries_placeholder(request(path="/v1/understudy?understudy=client"))
    assert rewrite.carries_placeholder(request(path=f"/v1/x?key={rewrite.QUOTED_CLIENT.decode()}"))


def test_r09_a_length_beside_a_chunked_framing_is_true_as_well() -> None:
    """R09: a tool that sends both has it corrected, and a stale one would be the next request's trouble."""
    asked = request(headers={"transfer-encoding": "chunked", "content-length": str(len(BODY))})
    sent = built(asked, model="another-model-name")
    assert sent.headers["content-length"] == str(len(sent.data.content or b""))
