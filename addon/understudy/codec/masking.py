"""How a secret is kept out of what people read: placeholders, masks, and a cut through what looks secret (law 8).

``mask`` puts the placeholder of a credential where a text repeats its secret; ``shown`` and ``veil`` quote what a
person wrote without giving away a secret that was pasted by mistake.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from understudy.codec.in_pieces import contains_any

SHORTEST_MASKED = 8
"""Shorter secrets are placeholders such as ``ollama`` or ``none``: masking them would ruin ordinary texts."""
_SHOWN_CHARACTERS = 60
_PLACEHOLDER = re.compile(r"(?:<|%3c)understudy(?::|%3a)[a-z0-9._-]+(?:>|%3e)", re.IGNORECASE | re.ASCII)
_LOOKS_SECRET = re.compile(
    r"((?:\b(?:sk|pk|rk|gsk|hf|r8|key|api|xai|pplx|nvapi|gh[opusr]|github_pat)[-_]|\bAIza|\beyJ|\bBearer\s+)\S{12,})"
    r"|[A-Za-z0-9]{24,}"
)
_DIGIT = re.compile("[0-9]")


def shown(text: str) -> str:
    """Quote what a person wrote for an error text: on one line, bounded, and cut where it looks like a secret.

    People do paste a secret where its name belongs, and error texts end up in issues and chats.
    """
    text = veil(text)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "...")


def veil(text: str) -> str:
    """Cut whatever in a text looks like a secret down to its first three characters."""

    def cut(match: re.Match[str]) -> str:
        # A long run of letters alone is a word. To ask for the digit in the expression would cost quadratic time.
        return f"{match[0][:3]}..." if match[1] is not None or _DIGIT.search(match[0]) else match[0]

    return _LOOKS_SECRET.sub(cut, text)


def placeholder(name: str) -> str:
    """What stands for the secret of the credential ``name`` wherever people or files can see it."""
    return f"<understudy:{name}>"


def has_placeholder(text: str | bytes) -> bool:
    """Whether a placeholder of any credential occurs, also with its brackets percent-encoded as in a URL."""
    return _PLACEHOLDER.search(text if isinstance(text, str) else text.decode("latin-1")) is not None


def mask[T: (str, bytes)](text: T, secret: str, name: str) -> T:
    """Replace every occurrence of the secret by the placeholder of ``name``.

    Found are the secret itself and its spellings in percent encoding, JSON and JavaScript escapes (also inside another
    JSON string), HTML entities, hex and base64, the last at any alignment so that ``user:secret`` of Basic
    authentication is found too; in bytes also in UTF-16. Secrets shorter than SHORTEST_MASKED are left alone.
    """
    shown = placeholder(name)
    if isinstance(text, str):
        return mask_with(text, secret, lambda _: shown)
    return mask_with(text, secret, lambda _: shown.encode())


def signs_of(secret: str) -> tuple[str, ...]:
    """Pieces of which one at least stands in every text that repeats the secret in any spelling; () if none is masked.

    What has none of them need not be searched any further.
    """
    if len(secret) < SHORTEST_MASKED:
        return ()
    return (*_forms(secret), *_signs(secret))


@lru_cache(maxsize=512)
def text_signs(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """The signs of several secrets: a text without any of them is as it is when it was masked."""
    return tuple(dict.fromkeys(sign for secret in secrets for sign in signs_of(secret)))


@lru_cache(maxsize=512)
def byte_signs(secrets: tuple[str, ...]) -> tuple[bytes, ...]:
    """The same for bytes."""
    known = [secret for secret in secrets if len(secret) >= SHORTEST_MASKED]
    signs = {sign for secret in known for sign in (*_literals(secret), *map(str.encode, _signs(secret)))}
    return tuple(sorted(signs | {b"\0"}, key=len)) if known else ()


def mask_with[T: (str, bytes)](text: T, secret: str, shown: Callable[[T], T]) -> T:
    """As :func:`mask`; ``shown`` makes what stands for an occurrence. The same object where there is none."""
    if len(secret) < SHORTEST_MASKED:
        return text
    if isinstance(text, str):
        for pattern in _for_str(secret).wanted(text):
            text = pattern.sub(lambda match: shown(match[0]), text)
        return text
    if text.count(0) >= SHORTEST_MASKED:
        text = _mask_utf16(text, secret, shown)
    for raw in _for_bytes(secret).wanted(text):
        text = raw.sub(lambda match: shown(match[0]), text)
    return text


def _mask_utf16(data: bytes, secret: str, shown: Callable[[bytes], bytes]) -> bytes:
    """A body in UTF-16 is read as text, at both places where its characters can begin, and written as it was."""
    for codec in ("utf-16-le", "utf-16-be"):
        for start in (0, 1):
            end = start + (len(data) - start) // 2 * 2
            text = data[start:end].decode(codec, "surrogatepass")
            masked = mask_with(text, secret, lambda found: shown(found.encode("latin-1", "replace")).decode("latin-1"))
            if masked is not text:
                data = data[:start] + masked.encode(codec, "surrogatepass") + data[end:]
    return data


class StreamMask:
    """Masks secrets in a body that comes in pieces, split anywhere. A piece without one is passed as it is.

    Only where a piece ends in the middle of what may become a secret is that end kept back until the next one: a piece
    that ends in a line break, as those of event streams do, never is. What is put in place of a secret has the same
    length, so that a body keeps the length it announced.
    """

    __slots__ = ("_kept", "_sought")

    def __init__(self, secrets: Iterable[tuple[str, str]]) -> None:
        """``secrets``: each with the name of its credential."""
        self._sought = _sought(tuple(secrets))
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return what can go on."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        masked = self._masked(data)
        if not masked or masked[-1] in _LINE_ENDS or not self._sought.secrets:
            return masked
        begins = self._unfinished(masked)
        if begins < len(masked):
            masked, self._kept = masked[:begins], masked[begins:]
        return masked

    def passes(self, data: bytes) -> bool:
        """Whether the next bytes, fed, would come out as they are: such need not be fed."""
        if self._kept or self._masked(data) is not data:
            return False
        return not data or data[-1] in _LINE_ENDS or self._unfinished(data) == len(data)

    def finish(self) -> bytes:
        """The body has ended: what was kept back is no secret."""
        kept, self._kept = self._kept, b""
        return kept

    def _masked(self, data: bytes) -> bytes:
        if not contains_any(data, self._sought.signs):
            return data
        for secret, filler in self._sought.secrets:
            data = mask_with(data, secret, filler)
        return data

    def _unfinished(self, data: bytes) -> int:
        """Where at the end of these bytes a secret may have begun that the next bytes complete."""
        # No spelling of a secret has a line break in it.
        first = max(data.rfind(b"\n") + 1, len(data) - self._sought.longest, 0)
        tail = data[first:]
        return first + min((each.unfinished(tail) for each in self._sought.cuts), default=len(tail))


class _Sought:
    """What the masks of all streams with the same secrets share."""

    __slots__ = ("cuts", "longest", "secrets", "signs")

    def __init__(self, secrets: Iterable[tuple[str, str]]) -> None:
        known = [(secret, name) for secret, name in secrets if len(secret) >= SHORTEST_MASKED]
        self.secrets = [(secret, _filler(name)) for secret, name in known]
        self.cuts = [_cuts_of(secret) for secret, _ in known]
        self.signs = byte_signs(tuple(secret for secret, _ in known))
        """Without any of them there is nothing to mask."""
        self.longest = max((each.longest for each in self.cuts), default=0)


def _filler(name: str) -> Callable[[bytes], bytes]:
    shown = placeholder(name).encode()
    return lambda found: shown[: len(found)].ljust(len(found), b"*")


_LINE_ENDS = frozenset(b"\r\n")
_NAMED: Mapping[str, tuple[str, ...]] = {
    "\t": ("Tab;",),
    "\n": ("NewLine;",),
    "!": ("excl;",),
    '"': ("QUOT;", "quot;"),
    "#": ("num;",),
    "$": ("dollar;",),
    "%": ("percnt;",),
    "&": ("AMP;", "amp;"),
    "'": ("apos;",),
    "(": ("lpar;",),
    ")": ("rpar;",),
    "*": ("ast;", "midast;"),
    "+": ("plus;",),
    ",": ("comma;",),
    ".": ("period;",),
    "/": ("sol;",),
    ":": ("colon;",),
    ";": ("semi;",),
    "<": ("LT;", "lt;"),
    "=": ("equals;",),
    ">": ("GT;", "gt;"),
    "?": ("quest;",),
    "@": ("commat;",),
    "[": ("lbrack;", "lsqb;"),
    "\\": ("bsol;",),
    "]": ("rbrack;", "rsqb;"),
    "^": ("Hat;",),
    "_": ("UnderBar;", "lowbar;"),
    "`": ("DiacriticalGrave;", "grave;"),
    "{": ("lbrace;", "lcub;"),
    "|": ("VerticalLine;", "verbar;", "vert;"),
    "}": ("rbrace;", "rcub;"),
}
"""The names that HTML has for the characters that nearly all secrets are made of: all that ``html.entities`` has."""


class _Spellings[T: (str, bytes)]:
    """How one secret may be written: ``literals`` are the secret encoded as a whole, ``escaped`` finds it with escapes.

    ``plain`` finds any of the literals. ``signs``: without any of them nothing is escaped.
    """

    def __init__(
        self, secret: str, literals: Sequence[T], plain: re.Pattern[T], escaped: re.Pattern[T], signs: Sequence[T]
    ) -> None:
        self._literals: Sequence[T] = literals
        self._plain: re.Pattern[T] = plain
        self._escaped: re.Pattern[T] = escaped
        self._signs: Sequence[T] = signs
        # With escapes there is at least one character for each of the secret's.
        self._shortest = min(len(secret), *map(len, literals))

    def wanted(self, text: T) -> Iterator[re.Pattern[T]]:
        """The expressions that find something in this text."""
        if len(text) < self._shortest:
            return
        # To ask for each literal costs a tenth of what an expression of all of them does, and for bytes `find` half of
        # what `in` does: see contains_any.
        find = text.find
        for literal in self._literals:
            if find(literal) >= 0:
                yield self._plain
                break
        for sign in self._signs:
            if find(sign) >= 0:
                if self._escaped.search(text):
                    yield self._escaped
                break


class _Cut:
    """Finds a spelling of one secret that the end of some bytes cuts."""

    def __init__(self, literals: Sequence[bytes], chars: Sequence[str]) -> None:
        self._literals = literals
        self._chars = [re.compile(char.encode("latin-1")) for char in chars]
        self.longest = max(_LONGEST_ESCAPE * len(chars), *map(len, literals))

    def unfinished(self, tail: bytes) -> int:
        """Where the first one begins; the length of the bytes when none does."""
        found = len(tail)
        for literal in self._literals:
            at = tail.find(literal[0], max(0, len(tail) - len(literal)))
            while 0 <= at < found:
                if literal.startswith(tail[at:]):
                    found = at
                at = tail.find(literal[0], at + 1)
        if any(sign in tail for sign in _CUT_SIGNS):
            for match in self._chars[0].finditer(tail):
                if self._is_cut(tail, match.end()):
                    found = min(found, match.start())
                    break
            if (begun := _CUT.search(tail)) is not None:
                found = min(found, begun.start())
        return found

    def _is_cut(self, tail: bytes, at: int) -> bool:
        """Whether a spelling, of which the first character ends at ``at``, goes on to the end of the bytes."""
        for char in self._chars[1:]:
            if at == len(tail) or _CUT.match(tail, at):
                return True
            match = char.match(tail, at)
            if match is None:
                break
            at = match.end()
        return False


_LONGEST_ESCAPE = 20
_CUT_SIGNS = (b"\\", b"%", b"&")
# The beginning of an escaped character, up to the end of the bytes.
_CUT = re.compile(
    rb"(?:\\{1,4}(?:u[0-9a-fA-F]{0,3}|x[0-9a-fA-F]?)?|%(?:25?)?[0-9a-fA-F]?|&(?:amp;)?#?[xX]?[0-9a-zA-Z]{0,12})\Z"
)


_sought = lru_cache(maxsize=512)(_Sought)


@lru_cache(maxsize=512)
def _for_str(secret: str) -> _Spellings[str]:
    literals = _forms(secret)
    escaped = "".join(_spelling(char, {char}) for char in secret)
    plain = re.compile("|".join(map(re.escape, literals)))
    return _Spellings(secret, literals, plain, re.compile(escaped), _signs(secret))


@lru_cache(maxsize=512)
def _for_bytes(secret: str) -> _Spellings[bytes]:
    literals = _literals(secret)
    escaped = re.compile("".join(_chars(secret)).encode("latin-1"))
    signs = [sign.encode() for sign in _signs(secret)]
    return _Spellings(secret, literals, re.compile(b"|".join(map(re.escape, literals))), escaped, signs)


def _signs(secret: str) -> list[str]:
    """What any spelling of this secret with an escaped character has in it, one of them."""
    more = [] if set('"\\/').isdisjoint(secret) else ["\\"]
    return ["\\u", "\\x", "%", "&", *more, *(["+"] if " " in secret else [])]


@lru_cache(maxsize=512)
def _cuts_of(secret: str) -> _Cut:
    wide = [secret.encode(f"utf-16-{end}", "surrogatepass") for end in ("le", "be")]
    return _Cut([*_literals(secret), *wide], _chars(secret))


def _literals(secret: str) -> list[bytes]:
    """All that is searched for as it is. A body may be in UTF-8 or Latin-1."""
    return list(dict.fromkeys(data for form in _forms(secret) for data in sorted(_encoded(form))))


def _chars(secret: str) -> list[str]:
    """The characters of a secret as expressions for bytes, written as Latin-1 text, one character per byte."""
    return [_spelling(char, {data.decode("latin-1") for data in _encoded(char)}) for char in secret]


def _forms(secret: str) -> list[str]:
    """The secret, and what it is in base64 and hex."""
    hexed = [data.hex() for data in sorted(_encoded(secret))]
    forms = [secret, *_base64_forms(secret), *hexed, *(each.upper() for each in hexed)]
    return list(dict.fromkeys(forms))


def _encoded(text: str) -> set[bytes]:
    found = {text.encode("utf-8", "surrogateescape")}
    if all(ord(char) <= 0xFF for char in text):
        found.add(text.encode("latin-1"))
    return found


def _spelling(char: str, plain: set[str]) -> str:
    """One character of a secret as an expression for all the ways in which it may be written.

    Each way begins with a literal character: so the expression is searched for by that.
    """
    code, ways = ord(char), {re.escape(text) for text in plain}
    for data in _encoded(char):
        ways.add("".join(f"%(?:25)?{_digits(f'{byte:02x}')}" for byte in data))
    # One backslash in JSON, up to four in JSON that is a string of another JSON.
    ways.add(rf"\\\\{{0,3}}u{_digits(f'{code:04x}')}")
    if code <= 0xFF:
        ways.add(rf"\\\\{{0,3}}x{_digits(f'{code:02x}')}")
    if char in '"\\/':
        ways.add(rf"\\\\{{0,3}}{re.escape(char)}")
    if char == " ":
        ways.add(r"\+")
    ways.add(f"&(?:amp;)?#0{{0,7}}{code};?")
    ways.add(f"&(?:amp;)?#[xX]0{{0,7}}{_digits(f'{code:x}')};?")
    ways |= {f"&(?:amp;)?{name}" for name in _names(char)}
    return f"(?:{'|'.join(sorted(ways, key=len, reverse=True))})"


def _names(char: str) -> Iterable[str]:
    if char.isascii():
        return _NAMED.get(char, ())
    from html.entities import html5  # here: a large table for secrets that hardly anyone has

    return [name for name, found in html5.items() if found == char and name.endswith(";")]


def _digits(digits: str) -> str:
    """Hexadecimal digits in either case."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)


def _base64_forms(secret: str) -> Iterator[str]:
    """The base64 characters that depend on nothing but the secret, for each place it can have in a group of three."""
    for data in sorted(_encoded(secret)):
        for offset in range(3):
            before, bits = -(-offset * 8 // 6), (offset + len(data)) * 8
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                yield encode(bytes(offset) + data).decode()[before : bits // 6]
