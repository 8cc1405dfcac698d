"""Keys of AWS: how a pool file names them, and how a request is signed by them (Signature Version 4).

``secret: {aws: ...}`` is a profile or a pair of sources. A request is not sent with the keys but signed by them, after
it has been written.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, override

from understudy.codec.masking import shown
from understudy.codec.yaml_nodes import Value
from understudy.config import fields
from understudy.config.fields import Absent, Wrong
from understudy.config.problems import Collector
from understudy.model import SecretError, SecretMissingError, SecretSource, SigningSource, Upstream

SERVICE = "bedrock"
EARLY = 10 * 60
"""Seconds before they expire that keys are renewed."""
MOMENT = 0.3
"""Seconds that a request waits for keys that are read again: enough for a file, too short to hold up a call."""
MISSING = "AWS keys need botocore, which is not installed"
INSTALL = "run `pip install 'mitmproxy-understudy[bedrock]'`, or use an API key of Bedrock"

logger = logging.getLogger(__name__)

_NOT_THERE = {"ProfileNotFound", "CredentialRetrievalError", "TokenRetrievalError", "SSOError", "LoginError"}
"""The exceptions of botocore for keys that are not there, by name, as older releases have not all of them: no such
profile, or a login or a program that gives out none now."""
_HOST = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com")


class Keys(NamedTuple):
    """What a signature is made with; ``token`` is "" without a session."""

    access: str
    secret: str
    token: str


def region_of(host: str) -> str:
    """The region in the name of an endpoint of Bedrock; "" when there is none."""
    match = _HOST.fullmatch(host)
    return match[1] if match else ""


class _AwsSource(SigningSource):
    """What both kinds share. ``region`` "" means that of the endpoint."""

    __slots__ = ("_region",)

    def __init__(self, region: str) -> None:
        self._region = region
        _botocore("auth")

    def keys(self) -> Keys:
        """The keys as they are now. Raises SecretError when there are none to be had."""
        raise NotImplementedError

    @override
    def reveal(self) -> str:
        return self.keys().secret

    @override
    def others(self) -> tuple[str, ...]:
        token = self.keys().token
        return (token,) if token else ()

    @override
    def sign(self, method: str, url: str, host: str, content_type: str, body: bytes) -> tuple[tuple[str, str], ...]:
        keys, region = self.keys(), self._region or region_of(host)
        if not region:
            raise SecretError("a signature needs a region, and the host names none")
        made = _botocore("awsrequest").AWSRequest(method=method, url=url, data=body)
        if content_type:
            made.headers["content-type"] = content_type
        credentials = _botocore("credentials").Credentials(keys.access, keys.secret, keys.token or None)
        _botocore("auth").SigV4Auth(credentials, SERVICE, region).add_auth(made)
        wanted = ("authorization", "x-amz-date", "x-amz-security-token")
        return tuple((name, str(value)) for name in wanted if (value := made.headers.get(name)))


class AwsKeys(_AwsSource):
    """A pair of keys, each from a source of its own, and for a session its token."""

    __slots__ = ("_access", "_secret", "_token")

    def __init__(self, access: SecretSource, secret: SecretSource, token: SecretSource | None, region: str) -> None:
        super().__init__(region)
        self._access, self._secret, self._token = access, secret, token

    @override
    def keys(self) -> Keys:
        return Keys(self._access.reveal(), self._secret.reveal(), self._token.reveal() if self._token else "")

    @override
    def __repr__(self) -> str:
        return f"<secret aws {self._access!r}>"


class AwsProfile(_AwsSource):
    """The keys of a profile.

    Raises SecretMissingError when there is no such profile or it has no keys now, SecretError when it cannot be used.
    """

    __slots__ = ("_credentials", "_files", "_frozen", "_name", "_renewal", "_stamp")

    def __init__(self, name: str, region: str) -> None:
        super().__init__(region)
        self._name = name
        self._renewal: threading.Thread | None = None
        self._read()

    @override
    def keys(self) -> Keys:
        changed = _stamp(self._files) != self._stamp
        needed = getattr(self._credentials, "refresh_needed", None)
        if changed or (needed is not None and needed(EARLY)):
            self._renew()
            if not changed and needed is not None and needed(0):
                raise SecretError(f"the keys of the AWS profile {shown(self._name)} have expired and are being renewed")
        return self._frozen

    def _renew(self) -> None:
        """Read or renew the keys aside; those that had to be asked for are there the next time."""
        if self._renewal is None or not self._renewal.is_alive():
            self._renewal = threading.Thread(target=self._try_to_read, name="understudy aws", daemon=True)
            self._renewal.start()
        self._renewal.join(MOMENT)

    def _try_to_read(self) -> None:
        try:
            self._read()
        except SecretError as error:
            logger.warning("%s: the keys read before stay in use", error)

    def _read(self) -> None:
        name = shown(self._name)
        try:
            session = _botocore("session").Session(profile=self._name)
            files = [session.get_config_variable(each) for each in ("credentials_file", "config_file")]
            self._files = [Path(file).expanduser() for file in files]
            self._stamp = _stamp(self._files)
            credentials = session.get_credentials()
            if credentials is None:
                raise SecretMissingError(f"the AWS profile {name} has no keys")
            frozen = credentials.get_frozen_credentials()
            region = session.get_config_variable("region")
        except SecretError:
            raise
        except Exception as error:
            # A program or a server that gives out keys may fail in any way. botocore's texts name files and profiles;
            # ours must not depend on their never naming more.
            names = {each.__name__ for each in type(error).__mro__}
            failure = SecretMissingError if names & _NOT_THERE else SecretError
            raise failure(f"the AWS profile {name} cannot be used ({type(error).__name__})") from None
        self._credentials, self._region = credentials, self._region or region or ""
        self._frozen = Keys(frozen.access_key, frozen.secret_key, frozen.token or "")

    @override
    def __repr__(self) -> str:
        return f"<secret aws profile {self._name}>"


def _stamp(files: list[Path]) -> tuple[tuple[int, int] | None, ...]:
    found: list[tuple[int, int] | None] = []
    for file in files:
        try:
            status = os.stat(file)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size))
    return tuple(found)


def _botocore(module: str) -> Any:
    """A module of botocore, loaded when it is first needed. Raises SecretError when it is not installed."""
    try:
        return import_module(f"botocore.{module}")
    except ImportError:
        raise SecretError(MISSING) from None


VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    }
)
"""The variables in which AWS's own programs and libraries look for secrets: a profile may name them as its source."""
_KEYS = ("access_key_id", "secret_access_key", "session_token")
_WRITE = "write `secret: {aws: {profile: NAME}}` or access_key_id and secret_access_key, each `{env: NAME}`"


def read(reader: Collector, value: Value, secret: Callable[[Value], SecretSource]) -> SecretSource:
    """What stands below ``aws``; ``secret`` reads one source of a pair. Raises Wrong; Absent without keys."""
    table = reader._table(value, ("profile", "region", *_KEYS), _WRITE)
    region = reader._field(table, "region", lambda value: fields.name(value, "the region"), "")
    try:
        if "profile" in table.entries:
            if any(key in table.entries for key in _KEYS):
                raise Wrong("a profile has its own keys", _WRITE)
            return AwsProfile(fields.text(table.entries["profile"][1], "the name of a profile"), region)
        if not {*_KEYS[:2]} <= table.entries.keys():
            raise Wrong("AWS keys are a profile or a pair", _WRITE)
        pair = [secret(table.entries[key][1]) for key in _KEYS if key in table.entries]
        return AwsKeys(pair[0], pair[1], pair[2] if len(pair) > 2 else None, region)
    except SecretMissingError as error:
        raise Absent(str(error), "name another") from None
    except SecretError as error:
        raise Wrong(str(error), INSTALL if str(error) == MISSING else "name another") from None


def check(upstream: Upstream, secret: SigningSource) -> None:
    """See that these keys belong to this upstream and that a signature can be made for it. Raises Wrong."""
    if upstream.dialect != "bedrock":
        raise Wrong(f"the upstream {upstream.name} takes no signature of AWS", "use it with `dialect: bedrock`")
    try:
        secret.sign("POST", upstream.url, upstream.host, "", b"")
    except SecretError as error:
        raise Wrong(str(error), "write `region: NAME` beside the keys") from None
