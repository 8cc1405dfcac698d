"""Which handlers of mitmproxy's own addons have nothing to do with a flow, so that they need not be called.

Some twenty of its handlers are called for each request and do nothing: what they are for is not wanted (nothing is
mapped, blocked, modified, replayed or saved), or is another kind of request. Whether it is wanted is said by an option,
or by an attribute of the addon that is empty as long as it is not. Whether a flow is of that kind is seen by one look.

Only mitmproxy's own classes are known here, and only while the handler is the one that they came with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mitmproxy.addons import (
    anticache,
    anticomp,
    asgiapp,
    blocklist,
    disable_h2c,
    dumper,
    maplocal,
    mapremote,
    modifybody,
    modifyheaders,
    onboarding,
    proxyauth,
    save,
    savehar,
    serverplayback,
    stickyauth,
    stickycookie,
    tlsconfig,
    upstream_auth,
)
from mitmproxy.http import HTTPFlow
from mitmproxy.optmanager import OptManager

type Look = Callable[[Any, HTTPFlow], bool]
"""Whether the handler of this addon has nothing to do with this flow."""
type Row = Sequence[tuple[int, Any]]
"""The addons that could have a handler of some name, each with a number that is of no interest here."""


def is_elsewhere(app: asgiapp.ASGIApp, flow: HTTPFlow) -> bool:
    """Of an app in the proxy, such as the one behind ``mitm.it``."""
    data = flow.request.data
    if not data.authority and (host := data.headers.get("Host")):
        return app.host not in host or not app.should_serve(flow)
    return not app.should_serve(flow)


def is_no_revocation_list(_addon: tlsconfig.TlsConfig, flow: HTTPFlow) -> bool:
    """Of what hands out the revocation list of mitmproxy's CA."""
    return not flow.request.data.path.endswith(b".crl")


def is_no_cleartext_http2(_addon: disable_h2c.DisableH2C, flow: HTTPFlow) -> bool:
    """Of what refuses HTTP/2 without TLS: an upgrade to it, and a request for ``*``, as which its preface is read."""
    return "upgrade" not in flow.request.headers and flow.request.data.path != b"*"


EMPTY: dict[tuple[type, str], str] = {
    (blocklist.BlockList, "request"): "items",
    (maplocal.MapLocal, "request"): "replacements",
    (mapremote.MapRemote, "request"): "replacements",
    (modifybody.ModifyBody, "request"): "replacements",
    (modifybody.ModifyBody, "response"): "replacements",
    (modifyheaders.ModifyHeaders, "requestheaders"): "replacements",
    (modifyheaders.ModifyHeaders, "responseheaders"): "replacements",
    (proxyauth.ProxyAuth, "requestheaders"): "validator",
    (save.Save, "request"): "stream",
    (save.Save, "response"): "stream",
    (serverplayback.ServerPlayback, "request"): "flowmap",
    (stickyauth.StickyAuth, "request"): "flt",
    (stickycookie.StickyCookie, "request"): "flt",
    (stickycookie.StickyCookie, "response"): "flt",
    (upstream_auth.UpstreamAuth, "requestheaders"): "auth",
}
"""The attribute of the addon that is empty, or not there, while the handler has nothing to do."""
UNSET: dict[tuple[type, str], str] = {
    (anticache.AntiCache, "request"): "anticache",
    (anticomp.AntiComp, "request"): "anticomp",
    (dumper.Dumper, "response"): "flow_detail",
    (onboarding.Onboarding, "request"): "onboarding",
    (savehar.SaveHar, "response"): "hardump",
}
"""The option that is not set while it has nothing to do."""
OTHER: dict[tuple[type, str], tuple[Look, Sequence[str]]] = {
    (asgiapp.ASGIApp, "request"): (is_elsewhere, []),
    (asgiapp.WSGIApp, "request"): (is_elsewhere, []),
    (onboarding.Onboarding, "request"): (is_elsewhere, []),
    (disable_h2c.DisableH2C, "request"): (is_no_cleartext_http2, []),
    # Newer releases also refuse requests to some hosts under these.
    (tlsconfig.TlsConfig, "request"): (is_no_revocation_list, ["emudhra", "emudhra_old"]),
}
"""The look that tells whether it has anything to do with a flow, as long as these options are not set."""
_OWN = {(kind, name): getattr(kind, name, None) for kind, name in (*EMPTY, *UNSET, *OTHER)}


@dataclass(slots=True)
class Busy:
    """Which addons of a row have to be called for a hook."""

    row: Row
    places: list[tuple[int, Look | None]] = field(default_factory=list)
    """Where they stand in it, each with the look that is to be taken at a flow before its call."""
    _states: list[dict[str, Any]] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)

    def is_true_of(self, row: Row) -> bool:
        """Whether these still are all of this row, as long as options and handlers are as they were."""
        return self.row is row and not any(map(dict.get, self._states, self._names))

    def rely_on(self, addon: object, attribute: str) -> None:
        """That this attribute of an addon is empty is the reason why it is passed over."""
        self._states.append(vars(addon))
        self._names.append(attribute)


def busy(name: str, row: Row, options: OptManager) -> Busy:
    """What has to be called of a row, for the hook of this name and these options."""
    made = Busy(row)
    for place, (_, addon) in enumerate(row):
        key, look = (type(addon), name), None
        if (own := _OWN.get(key)) is not None and getattr(*key) is own and name not in vars(addon):
            if key in EMPTY and not getattr(addon, EMPTY[key], True):
                made.rely_on(addon, EMPTY[key])
                continue
            if key in UNSET and _is_unset(options, UNSET[key]):
                continue
            if key in OTHER and all(_is_unset(options, each) for each in OTHER[key][1] if each in options):
                look = OTHER[key][0]
        made.places.append((place, look))
    return made


def _is_unset(options: OptManager, name: str) -> bool:
    return name in options and not getattr(options, name)
