"""AWS keys: where they come from, what a signature covers, and that they are told to nobody."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from mitmproxy import http

from tests.support.decisions import Source
from tests.support.relatives import OWN, upstream
from understudy.codec.yaml_nodes import ConfigError
from understudy.config.pool_file import parse
from understudy.config.secrets import aws as awssecret
from understudy.config.secrets.aws import AwsKeys, AwsProfile, region_of
from understudy.dialects import DIALECTS
from understudy.model.pool import Candidate, Credential
from understudy.model.secret import SecretError, SecretMissingError
from understudy.replies.hold import Secret
from understudy.requests import rewrite
from understudy.requests.sites import Sites

ACCESS, KEY, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token+0123456789=="
HOST = "bedrock-runtime.us-east-1.amazonaws.com"
AT = upstream("bedrock", HOST)


def source(token: str = "", region: str = "") -> AwsKeys:
    """A pair of keys."""
    return AwsKeys(Source(ACCESS), Source(KEY), Source(token) if token else None, region)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an AWS configuration, and nothing of AWS in the environment."""
    for name in (
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    write(tmp_path)
    (tmp_path / "config").write_text("[profile team]\nregion = eu-west-1\n[profile empty]\nregion = eu-west-1\n")
    return tmp_path


def write(home: Path, key: str = KEY) -> None:
    """(Over)write the keys of the profile `team`."""
    (home / "credentials").write_text(f"[team]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {key}\n")


def signed(source: AwsKeys | AwsProfile, body: bytes = b'{"messages":[]}') -> http.Request:
    """A call as Bedrock gets it."""
    headers = http.Headers(content_type="application/json", authorization=f"AWS4 {OWN}", x_amz_date=OWN)
    asked = http.Request.make("POST", f"https://{HOST}/model/a%3A0/converse?x=1", body, headers)
    recognised = Sites(pool()).recognise(HOST, 443, "POST", asked.path)
    assert recognised is not None
    call = rewrite.read_call(asked, recognised, rewrite.decoded_body(asked))
    assert call is not None
    return rewrite.build(asked, recognised, call, Candidate(Credential("a", AT, source), "b:0"), source.reveal())


def pool() -> Any:
    from tests.support.relatives import pool_of

    return pool_of(AT)


@pytest.mark.parametrize("token", ["", TOKEN])
def test_the_signature_is_over_what_is_sent(token: str) -> None:
    """R03, law 8: made after the rewrite, with the region of the host; the keys themselves stay here."""
    got = signed(source(token))
    assert got.path == "/model/b%3A0/converse?x=1"
    wire = repr((got.path, got.headers.fields, got.data.content))
    assert OWN not in wire and KEY not in wire and wire.count("AWS4-HMAC-SHA256") == 1
    assert got.headers.get("x-amz-security-token", "") == token
    again = AWSRequest(method="POST", url=f"https://{HOST}{got.path}", data=got.data.content)
    again.headers["content-type"] = "application/json"
    again.headers["X-Amz-Date"] = got.headers["x-amz-date"]
    if token:
        again.headers["X-Amz-Security-Token"] = token
    auth = SigV4Auth(Credentials(ACCESS, KEY, token or None), "bedrock", "us-east-1")
    again.context["timestamp"] = got.headers["x-amz-date"]
    signature = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    assert got.headers["authorization"].endswith(f"Signature={signature}")
    assert "/us-east-1/bedrock/aws4_request" in got.headers["authorization"]


@pytest.mark.parametrize(
    ("host", "region"),
    [(HOST, "us-east-1"), ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"), ("vpce.corp", "")],
)
def test_the_region_is_in_the_host(host: str, region: str) -> None:
    assert region_of(host) == region
    if region:
        assert f"/{region}/" in dict(source().sign("POST", f"https://{host}/", host, "", b""))["authorization"]
    else:
        with pytest.raises(SecretError, match="needs a region"):
            source().sign("POST", f"https://{host}/", host, "", b"")
    assert "/here/" in dict(source(region="here").sign("POST", f"https://{host}/", host, "", b""))["authorization"]


def test_a_profile_is_read_where_aws_keeps_it(home: Path) -> None:
    """By reference: keys that change in the file are used from then on."""
    profile = AwsProfile("team", "")
    assert (profile.reveal(), profile.others()) == (KEY, ())
    assert "/eu-west-1/" in dict(profile.sign("POST", "https://x/", "x", "", b""))["authorization"]
    write(home, "another/key/0123456789")
    profile.reveal()
    assert profile._renewal is not None
    profile._renewal.join(10)
    assert profile.reveal() == "another/key/0123456789"


def test_keys_that_can_be_read_in_a_moment_are_used_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a file."""
    monkeypatch.setattr(awssecret, "MOMENT", 10.0)
    profile = AwsProfile("team", "")
    write(home, "another/key/0123456789")
    assert profile.reveal() == "another/key/0123456789"


def test_a_profile_may_have_a_session_token(home: Path) -> None:
    with (home / "credentials").open("a") as file:
        file.write(f"aws_session_token = {TOKEN}\n")
    profile = AwsProfile("team", "")
    assert profile.others() == (TOKEN,)
    assert dict(profile.sign("POST", "https://x/", "x", "", b""))["x-amz-security-token"] == TOKEN


def test_a_profile_that_cannot_be_read_is_not_one_that_is_missing(home: Path) -> None:
    """A pool file without its secret goes on; a file that is broken is a mistake."""
    (home / "credentials").write_text("no section\n")
    with pytest.raises(SecretError, match=r"'team' cannot be used \(ConfigParseError\)") as caught:
        AwsProfile("team", "")
    assert not isinstance(caught.value, SecretMissingError)
    write(home)
    with pytest.raises(SecretMissingError):
        AwsProfile("nobody", "")


@pytest.mark.parametrize(("name", "why"), [("nobody", "ProfileNotFound"), ("empty", "has no keys")])
def test_a_profile_that_is_not_there(home: Path, name: str, why: str) -> None:
    with pytest.raises(SecretError, match=why):
        AwsProfile(name, "")


class Renewing:
    """Stands in for keys that expire: how many seconds they have left."""

    def __init__(self) -> None:
        self.left = 3600.0

    def refresh_needed(self, seconds: float) -> bool:
        return self.left < seconds or self.left <= 0


def test_keys_that_expire_are_renewed_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request never waits for a login: it takes the keys that still hold, or goes to the next candidate."""
    monkeypatch.setattr(awssecret, "MOMENT", 0.0)
    profile, renewing = AwsProfile("team", ""), Renewing()
    held, reading = threading.Event(), threading.Event()
    read_again = profile._read

    def slowly() -> None:
        reading.set()
        assert held.wait(10)
        read_again()

    monkeypatch.setattr(AwsProfile, "_read", lambda self: slowly())
    profile._credentials, profile._frozen = renewing, awssecret.Keys(ACCESS, "old/0123456789", TOKEN)
    assert profile.reveal() == "old/0123456789" and not reading.is_set()
    renewing.left = 60
    assert profile.others() == (TOKEN,) and reading.wait(10)
    renewing.left = 0.5
    assert profile.reveal() == "old/0123456789", "they hold until they have expired"
    renewing.left = 0
    with pytest.raises(SecretError, match="'team' have expired and are being renewed"):
        profile.reveal()
    assert profile._renewal is not None
    assert profile._renewal.daemon, "a login that hangs does not keep the program from ending"
    held.set()
    profile._renewal.join(10)
    assert (profile.reveal(), profile.others()) == (KEY, ())


def test_a_profile_that_breaks_keeps_its_keys(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a broken pool file does: what worked stays, and it is said once for each change."""
    profile = AwsProfile("team", "")
    (home / "credentials").write_text("[other]\naws_access_key_id = x\n")
    for _ in range(2):
        assert profile.reveal() == KEY
        assert profile._renewal is not None
        profile._renewal.join(10)
    assert len(caplog.records) == 1 and "the keys read before stay in use" in caplog.text
    assert KEY not in caplog.text


def test_keys_are_told_to_nobody(home: Path) -> None:
    """Law 8: not in a repr, not to pickle, not in an error text; and an echo of any of them is masked."""
    for each in (source(TOKEN), AwsProfile("team", "")):
        assert KEY not in repr(each) and TOKEN not in repr(each)
        assert copy.deepcopy(each) is each
        with pytest.raises(TypeError):
            pickle.dumps(each)
    secret = Secret("a", KEY, source(TOKEN).others())
    assert TOKEN not in repr(secret)
    echo = f"The canonical string should have been x-amz-security-token:{TOKEN}\n and {KEY}"
    assert secret.mask(echo).count("<understudy:a>") == 2 and TOKEN not in secret.mask(echo)


# -- the pool file -----------------------------------------------------------------------------------------------

TEXT = """\
upstreams:
  b: {dialect: bedrock, url: "https://%s"}
  o: {dialect: openai, url: https://api.openai.com/v1}
credentials:
  a: {upstream: %s, secret: {aws: %s}}
"""
ENVIRON = {"ID": ACCESS, "KEY": KEY, "TOKEN": TOKEN}
PAIR = "{access_key_id: {env: ID}, secret_access_key: {env: KEY}%s}"


def read(aws: str, host: str = HOST, at: str = "b") -> Any:
    return parse(TEXT % (host, at, aws), Path("/pools/pool.yaml"), ENVIRON, DIALECTS)


def test_keys_in_the_pool_file(home: Path) -> None:
    for aws, host in [
        (PAIR % "", HOST),
        (PAIR % ", session_token: {env: TOKEN}", HOST),
        (PAIR % ", region: here", "vpce.corp"),
        ("{profile: team}", "vpce.corp"),
    ]:
        found = read(aws, host).credentials["a"].secret
        assert found.reveal() == KEY and bool(found.others()) is ("TOKEN" in aws)
        signature = dict(found.sign("POST", f"https://{HOST}/", HOST, "", b""))["authorization"]
        assert f"Credential={ACCESS}/" in signature


@pytest.mark.parametrize(
    ("aws", "host", "at", "what", "write"),
    [
        ("{profile: nobody}", HOST, "b", "the AWS profile 'nobody' cannot be used", "name another"),
        ("{profile: team, access_key_id: {env: ID}}", HOST, "b", "a profile has its own keys", "write `secret: {aws"),
        ("{access_key_id: {env: ID}}", HOST, "b", "a profile or a pair", "write `secret: {aws"),
        (PAIR % "", "vpce.corp", "b", "needs a region", "write `region: NAME`"),
        (PAIR % "", HOST, "o", "the upstream o takes no signature of AWS", "use it with `dialect: bedrock`"),
        ("{access_key_id: {env: ID}, secret_access_key: {env: NONE}}", HOST, "b", "NONE' is not set", "set it before"),
        ("{access_key_id: AKIDEXAMPLE, secret_access_key: {env: KEY}}", HOST, "b", "never written here", "write"),
        ("{user: team}", HOST, "b", "unknown key 'user'", "profile"),
        ("team", HOST, "b", "in place of a mapping", "write `secret: {aws"),
    ],
)
def test_a_mistake_is_told_with_its_cure(home: Path, aws: str, host: str, at: str, what: str, write: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(aws, host, at)
    problem = next(each for each in caught.value.problems if what in each.what)
    assert problem.line == 5 and write in problem.write
    assert KEY not in str(caught.value)


def test_without_botocore_the_check_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("botocore")]:
        monkeypatch.setitem(sys.modules, name, None)
    for aws in (PAIR % "", "{profile: team}"):
        with pytest.raises(ConfigError, match=r"botocore, which is not installed.*mitmproxy-understudy\[bedrock\]"):
            read(aws)
