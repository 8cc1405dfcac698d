"""What the owner has, and what is said of a reply, as frozen values.

``pool`` has upstreams, credentials, candidates and routes; ``verdict`` the labels and scopes of a judgement;
``suspension`` what is out of rotation; ``secret`` what every source of a secret promises. The package never reads a
file, a clock or a socket, and decides nothing. Start with ``pool``.
"""

from understudy.model.pool import (
    Affinity,
    Budget,
    Candidate,
    Choice,
    Credential,
    HoldUntil,
    Intercept,
    Mode,
    Override,
    Pool,
    Relatives,
    Route,
    SecretSource,
    Store,
    Strategy,
    Upstream,
    WebSocket,
    WhenSealed,
    counted,
    host_regex,
    is_glob,
    printable,
    specificity,
)
from understudy.model.secret import SecretError, SecretMissingError, SigningSource, Source, fingerprint
from understudy.model.suspension import BY_HAND, Key, Suspension, key_of, keys_of
from understudy.model.usage import NO_TOKENS, Price, Usage
from understudy.model.verdict import AS_USUAL, ASKED, OPEN_MARK, Label, Scope, Then, Verdict

__all__ = [
    "ASKED",
    "AS_USUAL",
    "BY_HAND",
    "NO_TOKENS",
    "OPEN_MARK",
    "Affinity",
    "Budget",
    "Candidate",
    "Choice",
    "Credential",
    "HoldUntil",
    "Intercept",
    "Key",
    "Label",
    "Mode",
    "Override",
    "Pool",
    "Price",
    "Relatives",
    "Route",
    "Scope",
    "SecretError",
    "SecretMissingError",
    "SecretSource",
    "SigningSource",
    "Source",
    "Store",
    "Strategy",
    "Suspension",
    "Then",
    "Upstream",
    "Usage",
    "Verdict",
    "WebSocket",
    "WhenSealed",
    "counted",
    "fingerprint",
    "host_regex",
    "is_glob",
    "key_of",
    "keys_of",
    "printable",
    "specificity",
]
