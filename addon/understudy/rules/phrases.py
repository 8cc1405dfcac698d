"""The language of phrases: how a rule says which words it listens for, and what a text sounds like to it.

``<the-model> [is|are] not found`` is read word by word. A phrase is a sequence of

- words, in lower case; ``model(s)`` is either form. Chinese characters are words of their own, and so are the runs of
  hiragana and of katakana in Japanese;
- ``(a|b c)`` one of several phrases, ``[a|b]`` one of them or nothing;
- ``<name>`` a phrase of the vocabulary; ``<a-name>``, ``<a-number>`` and ``<a-parameter>`` (``top_p``) are
  what looks like one;
- ``*`` any one word, ``*_key`` one that ends so, ``...`` any words of the same sentence;
- ``^`` the beginning and ``$`` the end of the text;
- ``~(a|b)`` any one word but these, ``!(a|b)`` the same, or an end of the sentence or of the text.

This module knows texts and syntax; ``listening`` makes the automaton that hears all phrases in one pass.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

BUILT_IN = ("a-name", "a-number", "a-parameter")
LONGEST = 300
"""Characters of one phrase as it is written."""
MOST_PARTS = 20_000
"""Parts of one phrase when every name in it stands for its meaning."""
DEEPEST = 12
"""How many names may stand for one another."""


class PhraseError(ValueError):
    """A phrase that means nothing: what is wrong, and what to write instead."""

    def __init__(self, what: str, write: str) -> None:
        super().__init__(what)
        self.what = what
        self.write = write


# -- what a phrase is made of -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Word:
    """One word as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several words: what a choice between words becomes."""

    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ending:
    """One word that ends so: ``*_key``."""

    text: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One word of a kind: ``*``, ``<a-name>``, ``<a-number>``, ``<a-parameter>``, ``^`` or ``$``."""

    name: str


@dataclass(frozen=True, slots=True)
class NoneOf:
    """One word that is none of these; unless ``inside``, an end of a sentence or of the text will do as well."""

    words: frozenset[str]
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Any words of the same sentence, or none."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several, or nothing where one of them is empty."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Name:
    """A phrase of the vocabulary."""

    name: str


type Label = Word | OneOf | Ending | Kind | NoneOf
type Node = Label | Gap | Sequence | Choice | Name
NOTHING = Sequence(())

_LEXEMES = re.compile(r"\s*(\.\.\.|[!~]\(|\*_[a-z_]+|[()\[\]|*^$]|<[^<>]*>|\{model\}|[^\s()\[\]|*^$<>!~]+)(\(s\))?")

_PLAIN = re.compile(r"(?!cannot)[a-z]+")
"""A word that is heard as it is written."""


def parse(text: str) -> Node:
    """A phrase as it is written. Raises PhraseError."""
    if len(text) > LONGEST:
        raise PhraseError(f"the phrase is longer than {LONGEST} characters", "split it, or give its parts a name")
    return _Parser(text).phrase()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.lexemes: list[tuple[str, bool]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _LEXEMES.match(text, at)
            if found is None:
                raise PhraseError(f"`{text[at:].strip()[:20]}` cannot stand in a phrase", "see rules/README.md")
            # The same word stands in hundreds of phrases.
            self.lexemes.append((sys.intern(found[1]), found[2] is not None))
            at = found.end()
        self.at = 0

    def phrase(self) -> Node:
        node = self.sequence()
        if self.at < len(self.lexemes):
            raise PhraseError(
                f"`{self.lexemes[self.at][0]}` stands outside brackets",
                "write (a|b) for alternatives, [a] for an optional part",
            )
        if node == NOTHING or _may_be_empty(node):
            raise PhraseError("the phrase is empty, or may be", "write words that have to be there")
        return node

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.lexemes) and self.lexemes[self.at][0] not in (")", "]", "|"):
            parts += self.part()
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def part(self) -> Iterator[Node]:
        lexeme, plural = self.lexemes[self.at]
        self.at += 1
        if lexeme == "...":
            yield Gap()
        elif lexeme.startswith("*_"):
            yield Ending(lexeme[1:])
        elif lexeme in ("*", "^", "$"):
            yield Kind(lexeme)
        elif lexeme in ("!(", "~("):
            none = frozenset(word.text for option in self.options(")") for word in _words_of(option))
            yield NoneOf(none, lexeme == "~(")
        elif lexeme in ("(", "["):
            options = self.options(")" if lexeme == "(" else "]")
            yield Choice((*options, NOTHING) if lexeme == "[" else options)
        elif lexeme.startswith("<"):
            name = lexeme[1:-1]
            if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
                raise PhraseError(f"`{lexeme[:40]}` is no name", "write <lower-case-with-hyphens>")
            yield Kind(name) if name in BUILT_IN else Name(name)
        else:
            words = [lexeme] if _PLAIN.fullmatch(lexeme) else hear(lexeme)
            if not words or any(word in BREAKS for word in words) or lexeme != lexeme.lower():
                raise PhraseError(f"`{lexeme[:40]}` is no word", "write words in lower case, without punctuation")
            if plural:
                yield Choice((Word(words[0]), Word(words[0] + "s")))
            else:
                yield from map(Word, words)

    def options(self, closing: str) -> tuple[Node, ...]:
        found = [self.sequence()]
        while self.at < len(self.lexemes) and self.lexemes[self.at][0] == "|":
            self.at += 1
            found.append(self.sequence())
        if self.at == len(self.lexemes) or self.lexemes[self.at][0] != closing:
            raise PhraseError(f"a `{closing}` is missing", "close every bracket")
        if NOTHING in found:
            raise PhraseError("an alternative is empty", "write [a] for what may be missing")
        self.at += 1
        return tuple(found)


def _may_be_empty(node: Node) -> bool:
    match node:
        case Sequence(parts):
            return all(map(_may_be_empty, parts))
        case Choice(options):
            return any(map(_may_be_empty, options))
    return isinstance(node, Gap)


def _words_of(node: Node) -> Iterator[Word]:
    options = node.options if isinstance(node, Choice) else (node,)
    for option in options:
        if not isinstance(option, Word):
            raise PhraseError("`!( )` or `~( )` holds more than single words", "write !(word|word)")
        yield option


type Plain = tuple[Node, int]
"""What a name stands for, without names; and how deep the names in it stand for one another."""


def expand(node: Node, names: Mapping[str, Node], known: dict[str, Plain] | None = None) -> Node:
    """The same with every name standing for its meaning, in as few parts as may be. Raises PhraseError.

    ``known``: the names that were expanded before; more are added to it.
    """
    return _measured(_plain(node, names, {} if known is None else known, 0)[0])


def _measured(node: Node) -> Node:
    if size(node) > MOST_PARTS:
        raise PhraseError(f"it stands for more than {MOST_PARTS} words", "name fewer phrases in it")
    return node


def _plain(node: Node, names: Mapping[str, Node], known: dict[str, Plain], depth: int) -> Plain:
    match node:
        case Name(name):
            if name not in known:
                if name not in names:
                    raise PhraseError(f"the vocabulary has no <{name}>", "name one that it has, or add it")
                if depth > DEEPEST:
                    raise _too_deep(name)
                found, height = _plain(names[name], names, known, depth + 1)
                known[name] = _measured(found), height + 1
            if depth + known[name][1] > DEEPEST + 1:
                raise _too_deep(name)
            return known[name]
        case Sequence(inner) | Choice(inner):
            plain = [_plain(each, names, known, depth) for each in inner]
            nodes = [each for each, _ in plain]
            height = max((height for _, height in plain), default=0)
            return (_sequence(nodes) if isinstance(node, Sequence) else _choice(nodes)), height
    return node, 0


def _too_deep(name: str) -> PhraseError:
    return PhraseError(f"<{name}> is defined by itself, or by too many others", "say it in words")


def _sequence(parts: Iterable[Node]) -> Node:
    """Parts one after the other, sequences among them taken apart."""
    flat: list[Node] = []
    for part in parts:
        flat += part.parts if isinstance(part, Sequence) else (part,)
    return flat[0] if len(flat) == 1 else Sequence(tuple(flat))


def _choice(options: Iterable[Node]) -> Node:
    """One of several: choices among them become one, and a choice between words is one part."""
    words: set[str] = set()
    others: dict[Node, None] = {}
    for option in options:
        for each in option.options if isinstance(option, Choice) else (option,):
            match each:
                case Word(text):
                    words.add(text)
                case OneOf(several):
                    words |= several
                case _:
                    others.setdefault(each)
    together: list[Node] = [OneOf(frozenset(words))] if len(words) > 1 else [Word(each) for each in words]
    found = (*together, *_by_first(others))
    return found[0] if len(found) == 1 else Choice(found)


def _by_first(options: Iterable[Node]) -> Iterator[Node]:
    """Options that begin with the same part, as that part and a choice of what follows."""
    groups: dict[Node, list[Node]] = {}
    for option in options:
        first = option.parts[0] if isinstance(option, Sequence) and len(option.parts) > 1 else option
        groups.setdefault(first, []).append(option)
    for first, group in groups.items():
        if len(group) == 1:
            yield group[0]
        else:
            rests = [_sequence(each.parts[1:]) if isinstance(each, Sequence) else NOTHING for each in group]
            yield _sequence((first, _choice(rests)))


def size(node: Node) -> int:
    """How many parts it has."""
    match node:
        case Sequence(parts):
            return sum(map(size, parts))
        case Choice(options):
            return 1 + sum(map(size, options))
    return 1


def names_in(node: Node) -> Iterator[str]:
    """The names that stand in it, in their order."""
    match node:
        case Name(name):
            yield name
        case Sequence(parts) | Choice(parts):
            for part in parts:
                yield from names_in(part)


# -- what a text sounds like --------------------------------------------------------------------------------------

_CHINESE_BREAKS = "\u3002\uff1b\uff01\uff1f\uff0c"  # full stop, semicolon, exclamation and question mark, comma
BREAKS = frozenset(".;!?" + _CHINESE_BREAKS)
_HEARD = re.compile(
    r"\{model\}"
    r"|['\"`\u201c\u2018<\[(][^\W_][\w.@:/+-]{0,119}['\"`\u201d\u2019>\])]"  # quoted: a name
    r"|https?://\S{1,500}"
    r"|(?=[a-z_.@+-]{0,60}[0-9_@])[a-z0-9_](?:[a-z0-9_.@+-]{0,119}[a-z0-9_+])?"  # a name, a number, a parameter
    r"|[a-z]++(?![\u00df-\u024f])(?:'s(?![a-z]))?"
    r"|[\u3400-\u9fff]|[\u3041-\u309f]+|[\u30a0-\u30ff]+"  # Chinese characters, hiragana, katakana
    rf"|[.;!?](?=\s|$)|[{_CHINESE_BREAKS}]"
    r"|[^\W\d_]+"
)
_NOT = (("can't", "can not"), ("cannot", "can not"), ("won't", "will not"), ("n't", " not"))


def hear(text: str) -> list[str]:
    """The words of a text in lower case, with the ends of its sentences among them.

    ``isn't`` is ``is not``, a hyphen parts words, quoted words keep their quotes, and what looks like an identifier
    (``gpt-5``, ``max_tokens``) is one word. Takes time in proportion to the text.
    """
    heard = [word for chunk in text.split() for word in hear_chunk(chunk)]
    if heard and heard[-1] in BREAKS:
        del heard[-1]  # a full stop at the end says nothing
    return heard


def hear_chunk(chunk: str) -> list[str]:
    """The words of a text without spaces. What stands beside it makes no difference."""
    if "n't" in chunk or "cannot" in chunk:
        for short, long in _NOT:
            chunk = chunk.replace(short, long)
    return _HEARD.findall(chunk)


_QUOTES = "'\"`\u201c\u2018<[("
_NAME_LIKE = re.compile(r"[0-9_@]")
_NUMBER = re.compile(r"[0-9][0-9.,]*[km]?")
_PARAMETER = re.compile(r"(?!model|deployment|engine|api_|account|key|error|not_)[a-z]+(?:_[a-z]+)+")


def is_parameter(word: str) -> bool:
    """Whether a word looks like a parameter of a request: ``top_p``, but not ``model_id`` or ``api_key``."""
    return _PARAMETER.fullmatch(word) is not None


def kinds_of(heard: str) -> tuple[str, bool, bool]:
    """What one heard word is: the word itself, whether it looks like a name, and whether it is a number."""
    if heard == "{model}":
        return heard, True, False
    quoted = heard[0] in _QUOTES and len(heard) > 2
    word = heard[1:-1] if quoted else heard
    number = _NUMBER.fullmatch(word) is not None
    return word, quoted or (not number and _NAME_LIKE.search(word) is not None), number
