"""What a saved flow may not give away: the credentials it carries, wherever a text or a reply repeats them (law 8).

A flow that was saved without understudy holds what the tool really sent. Whatever was seen as a credential in any flow
so far is masked in all that is said or written about any of them, and what merely looks like a secret is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_plus

from cachetools import LRUCache

from understudy.codec.masking import SHORTEST_MASKED, has_placeholder, mask, veil
from understudy.dialects import AUTH_HEADERS
from understudy.flows.saved_flow import Pairs, SavedFlow

SECRET_HEADERS = AUTH_HEADERS | {"cookie", "set-cookie", "proxy-authorization"}
SECRET_QUERY = frozenset({"key", "api_key", "api-key", "access_token", "token"})
REMEMBERED = 64
"""How many different credentials are remembered; of a file with more, those that were not seen for longest are let go.
As many patterns are kept compiled."""
_WORDS = re.compile(r"[\s;,=]+")


def credentials_in(headers: Pairs, path: str) -> Iterator[str]:
    """What a message carries as a credential: words of its headers, values of its query. Placeholders are none."""
    for name, value in headers:
        if name.lower() in SECRET_HEADERS:
            yield from (word for word in (value, *_WORDS.split(value)) if _counts(word))
    for pair in path.partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if unquote_plus(name).strip().lower() in SECRET_QUERY and _counts(value):
            yield unquote_plus(value)


def _counts(word: str) -> bool:
    return len(word) >= SHORTEST_MASKED and not has_placeholder(word) and word.lower() not in ("bearer", "negotiate")


class Masks:
    """The credentials seen so far. ``name`` stands in the placeholder."""

    def __init__(self, name: str = "client") -> None:
        self.name = name
        self._known: LRUCache[str, None] = LRUCache(maxsize=REMEMBERED)

    def __repr__(self) -> str:
        return f"<Masks for {len(self._known)} credentials>"

    def learn(self, headers: Pairs, path: str = "") -> None:
        """Remember what this message carries."""
        for secret in credentials_in(headers, path):
            self._known[secret] = None

    def learn_flow(self, flow: SavedFlow) -> None:
        """Remember what a flow carries on either way."""
        self.learn(flow.headers, flow.path)
        if flow.reply is not None:
            self.learn(flow.reply.headers)

    @property
    def known(self) -> list[str]:
        """Longest first: one may begin with another."""
        return sorted(self._known, key=len, reverse=True)

    def mask[T: (str, bytes)](self, text: T) -> T:
        """Put the placeholder wherever one of them stands, also encoded (see :func:`secrets.mask`)."""
        for secret in self.known:
            text = mask(text, secret, self.name)
        return text

    def clean(self, text: str) -> str:
        """A text that may be shown: masked, and what looks like a secret cut."""
        return veil(self.mask(text))

    def clean_all(self, value: object) -> object:
        """The same for every text inside a value that is to be written as JSON."""
        match value:
            case str():
                return self.clean(value)
            case dict():
                return {self.clean(str(key)): self.clean_all(item) for key, item in value.items()}
            case list() | tuple():
                return [self.clean_all(item) for item in value]
        return value
