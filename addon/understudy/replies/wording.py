"""How rules see what an error says: lower case, single spaces, short, and with `{model}` for the requested model.

Vendors spell the same model in many ways, and they quote pieces of the request. Both are evened out here, once, so that
a rule is about the vendor's words and about nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from understudy.replies.unwrap import ECHO_BEFORE, MAX_MESSAGE

HEAD, TAIL = 480, 160  # characters of a message that are judged: vendors say what is wrong first or last
CUT = "..."  # what stands for something left out; ASCII, which keeps searching quick

# Short passages are found as well, so that what stands between two quoted names is not taken for quoted itself.
_QUOTED = re.compile(
    r"\"(?:[^\"\\]|\\.){0,2000}\"|`[^`]{0,2000}`|(?<![a-z0-9])'(?:[^'\\]|\\.){0,2000}'(?![a-z0-9])|“[^”]{0,2000}”"
)
_VENDOR_BEFORE = re.compile(
    r"(?:error|exception|provider|upstream|response|failed|returned|said|says|status|reason|metric|limit|[\"'](?:message|detail|msg)[\"'])"
    r"\W{0,8}$"
)


def fold(message: str) -> str:
    """Lower case, single spaces, bounded, without longer quoted passages, which repeat the request's words."""
    message = message[:MAX_MESSAGE]
    if not message.isascii():
        message = repaired(message)
    if len(message) > 4 * (HEAD + TAIL):  # what is cut out of a long one need not be evened out before
        text = f"{_even(message[: 4 * HEAD])[:HEAD]} {CUT} {_even(message[-4 * TAIL :])[-TAIL:]}"
    else:
        text = _even(message)
        if len(text) > HEAD + TAIL:
            text = f"{text[:HEAD]} {CUT} {text[-TAIL:]}"
    brace = text.find("{")
    if brace != -1 and ECHO_BEFORE.search(text, max(0, brace - 80), brace):
        text = f"{text[:brace]}{CUT}"  # arguments of a tool, a schema, a prompt

    def drop(found: re.Match[str]) -> str:
        passage = found.group()
        if passage.count(" ") < 2 or not found.start() or _VENDOR_BEFORE.search(text, 0, found.start()):
            return passage
        return CUT

    return _QUOTED.sub(drop, text) if '"' in text or "'" in text or "`" in text or "“" in text else text


def _even(text: str) -> str:
    return " ".join(text.split()).lower().replace("\u2019", "'")


_MISREAD = re.compile("[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]")
"""Two letters that a UTF-8 text becomes when a program takes it for Latin-1 or Windows-1252."""


def repaired(text: str) -> str:
    """A text that a gateway has decoded with the wrong charset, decoded rightly; every other text as it is.

    Only what cannot have been meant is touched: the whole text has to be valid UTF-8 when it is encoded again.
    """
    if len(_MISREAD.findall(text[:400])) < 2:
        return text
    for charset in ("latin-1", "cp1252"):
        try:
            return text.encode(charset).decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            continue
    # Windows-1252 leaves five bytes undefined; some decoders let them through as control characters.
    mixed = b"".join(_byte(char) for char in text)
    try:
        return mixed.decode("utf-8")
    except UnicodeDecodeError:
        return text


def _byte(char: str) -> bytes:
    try:
        return char.encode("cp1252")
    except UnicodeEncodeError:
        return bytes((ord(char),)) if ord(char) < 256 else b"\xff"


# A name that is an ordinary word ("auto", "ollama") counts only in quotes or right behind "model".
_TOLD = ("model ", "model:", "model=", "model: ")
_OPENING, _CLOSING = "`'\"<[\u2018\u201c", "`'\">]\u2019\u201d"
_FOLDERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.:@-/")
_INSIDE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
# A date or "latest" belongs to the name; what makes another name of it must not follow.
_BEHIND = re.compile(r"(?:[-@]\d{8}|-\d{4}-\d{2}-\d{2}|-latest)?(?![a-z0-9_]|[-.:@/][a-z0-9])")


@dataclass(frozen=True, slots=True)
class Names:
    """The spellings of one model name."""

    strong: tuple[str, ...]
    weak: tuple[str, ...]

    def put_placeholder(self, text: str) -> tuple[str, int]:
        """The text (folded) with every mention, its folders and quotes, as `{model}`; and how many there were."""
        pieces: list[str] = []
        done = count = 0
        for start, end in self._mentions(text):
            if start < done:
                continue
            first = start
            while start > done and text[start - 1] in _FOLDERS and (text[start - 1] == "/" or start < first):
                start -= 1
            if start > done and text[start - 1] in _OPENING:
                start -= 1
                end += end < len(text) and text[end] in _CLOSING
            pieces += (text[done:start], "{model}")
            done, count = end, count + 1
        return ("".join((*pieces, text[done:])), count) if count else (text, 0)

    def _mentions(self, text: str) -> list[tuple[int, int]]:
        found: dict[int, int] = {}
        for spelling in (*self.strong, *self.weak):
            at = text.find(spelling)
            while at >= 0:
                behind = _BEHIND.match(text, at + len(spelling))
                if behind and (not at or text[at - 1] not in _INSIDE) and self._counts(spelling, text, at):
                    found[at] = max(found.get(at, 0), behind.end())
                at = text.find(spelling, at + len(spelling))
        return sorted(found.items())

    def _counts(self, spelling: str, text: str, at: int) -> bool:
        if spelling in self.strong:
            return True
        end = at + len(spelling)
        quoted = text[at - 1 : at] in ("`", "'", '"', "“", "/") and text[end : end + 1] in ("`", "'", '"', "”")
        return quoted or text.endswith(_TOLD, 0, at)


_TAG = re.compile(r"\[\w+\]$|:(?!\d)[\w-]+$")
_REGION = re.compile(r"^(?:us|eu|apac|global)\.")
_TELLING = re.compile("[0-9/_-]")  # what ordinary words do not hold


@lru_cache(maxsize=256)
def spell(model: str, alias: str) -> Names:
    """A model name as vendors write it (in lower case): without folders, tags or a region."""
    strong: set[str] = set()
    weak: set[str] = set()
    for name in (model[:200].lower(), alias[:200].lower()):
        short = name.rpartition("/")[2]
        spellings = {name, name.removeprefix("models/"), short, _TAG.sub("", short), _REGION.sub("", short)}
        for spelling in spellings:
            if len(spelling) > 2:
                (strong if _TELLING.search(spelling) else weak).add(spelling)
    return Names(tuple(sorted(strong)), tuple(sorted(weak - strong)))


_PARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9\u3400-\u9fff]+")


@lru_cache(maxsize=1024)
def spell_out(code: str) -> str:
    """A code as words: ``ModelNotFound`` and ``model_not_found`` are ``model not found``. At most 200 characters."""
    return " ".join(_PARTS.sub(" ", code[:200]).split()).lower()
