"""What commands print: the secret and its expiry, in the shapes that are in use, and never a word of it in an error."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.config.secrets.command_output import Printed, read_output
from understudy.model.secret import SecretError

NOW = 1_700_000_000.0
SECRET = "sk-from-a-command-0123456789"
LATER = 1_700_003_600
RFC_3339 = datetime.fromtimestamp(LATER, UTC).isoformat().replace("+00:00", "Z")


def read(output: object) -> Printed:
    """What is read from this text, or from this value as JSON."""
    text = output if isinstance(output, str) else json.dumps(output)
    return read_output(text.encode(), "the command 'x'", NOW)


def jwt(claims: object) -> str:
    """A JSON web token with these claims and a signature of nobody."""
    parts = [json.dumps({"alg": "none"}), json.dumps(claims), "signature"]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


PLAIN = {
    "alone": SECRET,
    "with a line break": f"{SECRET}\n",
    "with spaces and a carriage return": f"  {SECRET} \r\n",
    "first of several lines, as pass prints": f"{SECRET}\nuser: me\nurl: https://x.example\n",
    "after a byte order mark": f"\ufeff{SECRET}\n",
    "as a JSON string": f'"{SECRET}"\n',
}


@pytest.mark.parametrize("output", PLAIN.values(), ids=PLAIN)
def test_plain_text_is_kept_until_a_401(output: str) -> None:
    assert read(output) == Printed(SECRET, math.inf)


SHAPES = {
    "Kubernetes": {"kind": "ExecCredential", "status": {"token": SECRET, "expirationTimestamp": RFC_3339}},
    "gcloud config-helper": {"configuration": {}, "credential": {"access_token": SECRET, "token_expiry": RFC_3339}},
    "Azure CLI": {"accessToken": SECRET, "expiresOn": "2023-11-14 22:00:00.000000", "expires_on": LATER, "tenant": "t"},
    "Azure CLI, the other way round": {"accessToken": SECRET, "expires_on": LATER, "expiresOn": "2023-11-14 22:00:00"},
    "OAuth": {"access_token": SECRET, "expires_in": 3600, "id_token": "x", "token_type": "Bearer"},
    "OAuth, number as text": {"access_token": SECRET, "expires_in": "3600"},
    "Google's executables": {"version": 1, "success": True, "id_token": SECRET, "expiration_time": LATER},
    "Vault": {"auth": {"client_token": SECRET, "lease_duration": 3600}, "data": None},
    "Vault secret": {"lease_duration": 3600, "data": {"value": SECRET, "expiry": RFC_3339}},
    "milliseconds": {"api_key": SECRET, "expires_at": LATER * 1000},
    "an offset": {"secret": SECRET, "expiration": "2023-11-15T00:13:20+01:00"},
    "the earliest counts": {"token": SECRET, "expires_in": 3600, "expires_at": LATER + 999},
}


@pytest.mark.parametrize("document", SHAPES.values(), ids=SHAPES)
def test_shapes_in_use_are_read_with_their_expiry(document: object) -> None:
    assert read(document) == Printed(SECRET, LATER)
    assert read(json.dumps(document, indent=2) + "\n") == Printed(SECRET, LATER)


@pytest.mark.parametrize(
    "expiry",
    [None, True, "", "tomorrow", "2023-11-14 22:00:00", 0, -5, "0", "nan", "inf", [1], {"at": 1}, "9" * 400],
)
def test_an_expiry_that_says_nothing_is_none(expiry: object) -> None:
    """A 401 is soon enough: to guess one would mean a run for each request, or a secret that is long dead."""
    assert read({"token": SECRET, "expires_at": expiry}) == Printed(SECRET, math.inf)
    assert read({"token": SECRET, "expires_in": expiry}) == Printed(SECRET, math.inf)


@pytest.mark.parametrize("length", range(12))
def test_a_json_web_token_says_when_it_expires(length: int) -> None:
    """However long it is: its parts are not padded."""
    token = jwt({"exp": LATER, "sub": "m" * length})
    assert read(token) == Printed(token, LATER)
    assert read({"token": token}) == Printed(token, LATER)
    assert read({"token": token, "expires_in": 60}) == Printed(token, NOW + 60), "what is said outright goes first"


@pytest.mark.parametrize("token", [jwt({"exp": "soon"}), jwt([1]), jwt({}), "eyJx.!!.x", "eyJx.A.x", "eyJx.____.x"])
def test_what_only_looks_like_a_json_web_token_is_kept_until_a_401(token: str) -> None:
    assert read(token) == Printed(token, math.inf)


def test_names_are_read_in_order() -> None:
    assert read({"key": "other-value-1", "access_token": SECRET, "password": "other-value-2"}).secret == SECRET
    assert read({"token": "", "status": {"token": SECRET}}).secret == SECRET


BROKEN = {
    "nothing": "",
    "blank": " \n ",
    "cut JSON": f'{{"token": "{SECRET}"',
    "a list": f'["{SECRET}"]',
    "no known name": {"whatever": SECRET},
    "no text": {"token": 5, "secret": {"value": SECRET}},
    "a line break inside": {"token": f"{SECRET}\n{SECRET}"},
    "a control character": f"{SECRET}\0x",
    "a character that no header can carry": f"{SECRET}\u0457",
    "deep": "[" * 100_000,
    "AWS, which signs instead": {"Version": 1, "AccessKeyId": "AKIA0123456789", "SecretAccessKey": SECRET},
}


@pytest.mark.parametrize("output", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_used_is_an_error_that_repeats_nothing(output: object) -> None:
    """R07: neither the text of the error nor what led to it holds the output."""
    with pytest.raises(SecretError, match=r"^the command 'x' ") as caught:
        read(output)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_what_was_printed_does_not_show_its_secret() -> None:
    assert SECRET not in repr(read(SECRET))


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
    .map(json.dumps)
    .map(str.encode)
)
def test_any_output_gives_a_secret_or_a_secret_error(output: bytes) -> None:
    try:
        printed = read_output(output, "the command 'x'", NOW)
    except SecretError:
        return
    assert printed.secret
    assert not math.isnan(printed.expires)
