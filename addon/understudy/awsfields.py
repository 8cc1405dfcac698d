"""Keys of AWS in a pool file: ``secret: {aws: ...}``, a profile or a pair of sources, and where they may be used."""

from __future__ import annotations

from collections.abc import Callable

from understudy import fields
from understudy.awssecret import INSTALL, MISSING, AwsKeys, AwsProfile
from understudy.collector import Collector
from understudy.fields import Wrong
from understudy.pool import SecretSource, Upstream
from understudy.secrets import SecretError, SigningSource
from understudy.yamlnodes import Value

_KEYS = ("access_key_id", "secret_access_key", "session_token")
_WRITE = "write `secret: {aws: {profile: NAME}}` or access_key_id and secret_access_key, each `{env: NAME}`"


def read(reader: Collector, value: Value, secret: Callable[[Value], SecretSource]) -> SecretSource:
    """What stands below ``aws``; ``secret`` reads one source of a pair. Raises Wrong."""
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
