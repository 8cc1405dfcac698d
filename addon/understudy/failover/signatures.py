"""What an error says apart from the request that it was said of: its signature, and whether it reads like a policy.

A signature is kept, shown and written to disk, so nothing in it may come from a prompt or be a secret. Taken out are
quoted passages and everything in brackets, the model, URLs, addresses and paths, numbers and whatever has a digit or an
underscore in it, and long words. Of the words that are left, only those are kept to be read that do not stand in the
request, or are among a fixed few that every error uses. To tell signatures apart a digest is enough.
"""

# ruff: noqa: RUF001  letters and quotes of other scripts are what this looks for

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from understudy.replies import ErrorInfo, Reply
from understudy.suspensions import Signature

CUT = "…"
MOST_TEXT = 640
"""Characters of a message that are looked at; as many as rules see."""
MOST_WORDS = 24
LONGEST_WORD = 24
LONGEST_RUN = 60
"""Characters of a passage in a script without spaces."""
MOST_ASKED = 1 << 20
"""Bytes of a request that are searched for a word. Of a larger one only the fixed words are known not to come."""
ECHO = 4
"""So many words in a row that stand in the request are an echo of it, however common each of them is."""

# Words of which every error is made. That one of them stands in the request says nothing about the request.
COMMON = frozenset({
    "a", "about", "above", "access", "account", "accepted", "action", "active", "added", "again", "all", "allowed",
    "already", "also", "an", "and", "another", "any", "api", "application", "are", "argument", "as", "at",
    "authenticate", "authentication", "authorized", "available", "bad", "balance", "be", "because", "been", "before",
    "below", "but", "by", "call", "cannot", "channel", "check", "client", "closed", "code", "completion",
    "configuration", "configured", "connect", "connection", "contact", "contains", "content", "context", "could",
    "create", "credentials", "credit", "credits", "current", "data", "deactivated", "default", "denied", "deployment",
    "deprecated", "describe", "details", "did", "different", "disabled", "do", "does", "down", "due", "during",
    "either", "empty", "enable", "enabled", "endpoint", "engine", "enough", "entitlement", "error", "exceed",
    "exceeded", "exceeds", "exist", "existing", "exists", "expected", "expired", "failed", "failure", "feature",
    "field", "following", "for", "forbidden", "format", "found", "free", "from", "function", "gateway", "get",
    "given", "group", "had", "has", "have", "header", "help", "here", "if", "image", "in", "include", "included",
    "incorrect", "input", "insufficient", "internal", "into", "invalid", "is", "issue", "it", "its", "json", "key",
    "later", "length", "less", "limit", "limited", "limits", "list", "location", "longer", "made", "make", "maximum",
    "may", "message", "messages", "method", "minimum", "missing", "model", "models", "more", "must", "name", "need",
    "needs", "new", "no", "none", "not", "null", "number", "object", "of", "off", "on", "one", "only", "operation",
    "or", "organization", "other", "our", "out", "output", "over", "overloaded", "page", "parameter", "parameters",
    "parse", "path", "payload", "payment", "per", "permission", "permitted", "plan", "please", "project", "property",
    "provide", "provided", "provider", "proxy", "quota", "rate", "reach", "reached", "received", "refused", "region",
    "registered", "rejected", "request", "requested", "requests", "require", "required", "requires", "resource",
    "response", "retry", "role", "schema", "second", "seconds", "see", "selected", "sent", "server", "service",
    "should", "size", "some", "specified", "status", "stream", "string", "subscribe", "subscription", "such",
    "support", "supported", "supports", "system", "temporarily", "text", "than", "that", "the", "their", "there",
    "this", "time", "timed", "timeout", "to", "token", "tokens", "too", "tool", "tools", "try", "type", "unable",
    "unauthorized", "unavailable", "unexpected", "unknown", "unsupported", "until", "up", "update", "upgrade",
    "upstream", "url", "usage", "use", "used", "user", "users", "using", "valid", "value", "version", "via", "was",
    "we", "when", "which", "while", "will", "with", "within", "without", "wrong", "you", "your",
})  # fmt: skip

_PASSAGES = re.compile(
    r"\"[^\"]{0,640}\"|`[^`]{0,640}`|(?<!\w)'[^']{0,640}'(?!\w)|“[^”]{0,640}”|‘[^’]{0,640}’|«[^»]{0,640}»"
    r"|「[^」]{0,640}」|『[^』]{0,640}』|\{[^{}]{0,640}\}|\[[^\[\]]{0,640}\]|\([^()]{0,640}\)|<[^<>]{0,640}>"
    r"|（[^（）]{0,640}）|【[^【】]{0,640}】|《[^《》]{0,640}》"
)
_OPENED = re.compile(r"[\"`“«「『{\[(<（【《].*", re.DOTALL)  # what the message's end has cut in two
_MODEL = "\ue000"  # private use: stands in no message by itself
_RUN = re.compile(r"[!-~\x7f\d]+")
# Whatever has a digit in it, and what is no word: addresses, paths, names of fields, masks.
_NAME = re.compile(r"\d|[/@\\=_&%$#+~^|<>*\x7f]|[!-~]\.[!-~]|[a-z]-[a-z]")
_BREAKS = re.compile(r"[\s,.;:!?，。、：；！？…·]+")
_TAGS = re.compile(r"<(?:script|style)[^<>]{0,200}>.{0,4000}?</(?:script|style)>|<[^<>]{0,400}>", re.DOTALL)
_CODE = re.compile(r"[a-z][a-z .:-]{0,59}|[0-9]{1,6}")
_SPACELESS = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True)
class _Shape:
    """What stays the same in one error, before it is known what of it stands in the request."""

    upstream: str
    status: int
    code: str
    type: str
    words: tuple[str, ...]

    @property
    def id(self) -> str:
        """The same for the same error, and hardly ever for two."""
        told = "\0".join((self.upstream, str(self.status), self.code, self.type, " ".join(self.words)))
        return blake2b(told.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _shape_of(reply: Reply, upstream: str) -> _Shape:
    said = next((info for info in reply.said if info.message or info.code or info.type), ErrorInfo())
    text = said.message or (_page(reply) if not said.code and not said.type else "")
    return _Shape(upstream, reply.status, _code(said.code), _code(said.type), tuple(_shape(text)))


def identity_of(reply: Reply, upstream: str) -> str:
    """The id of :func:`signature_of`, at a fraction of the cost."""
    return _shape_of(reply, upstream).id


def signature_of(reply: Reply, upstream: str, asked: Callable[[], bytes] | None = None) -> Signature:
    """The signature of an error that an upstream of this name sent.

    ``asked`` gives the body of the request, without an encoding; None: it is not known.
    """
    shape, known = _shape_of(reply, upstream), _Asked(asked)
    return Signature(
        shape.id,
        upstream,
        reply.dialect,
        reply.status,
        known.code(shape.code),
        known.code(shape.type),
        " ".join(known.words(shape.words)).replace(_MODEL, "{model}"),
    )


def _page(reply: Reply) -> str:
    """The text of a reply in which no error stands: a page, or nothing that can be read."""
    text = reply.folded_text[:8192]
    return _TAGS.sub(" ", text).strip() if text[:1] not in ("{", "[") else ""


def _code(text: str) -> str:
    """A code or a type that could be of any request; "" for one that looks like an id."""
    spelled = text.replace("_", " ").strip()
    return text.strip() if _CODE.fullmatch(spelled) and all(len(each) <= LONGEST_WORD for each in _parts(text)) else ""


def _parts(text: str) -> list[str]:
    return re.split(r"[_ .:-]+", text)


def _shape(message: str) -> list[str]:
    """The words of a message that do not change from one request to the next."""
    text = message[:MOST_TEXT].lower().replace(_MODEL, " ").replace("{model}", _MODEL)
    for _ in range(3):  # brackets in brackets
        text, count = _PASSAGES.subn(f" {CUT} ", text)
        if not count:
            break
    text = _OPENED.sub(f" {CUT} ", text)
    text = _RUN.sub(lambda run: f" {CUT} " if _NAME.search(run[0]) else run[0], text.replace(_MODEL, f" {_MODEL} "))
    found: list[str] = []
    for piece in _BREAKS.split(text.replace(CUT, f" {_PLACE} ")):
        word = piece.strip("'\"-–—‘’“”()[]{}")
        if not word:
            continue
        kept = word if word == _MODEL or _is_word(word) else _PLACE
        if kept != _PLACE or (found and found[-1] != _PLACE):
            found.append(kept)
        if len(found) >= MOST_WORDS:
            break
    return [CUT if each == _PLACE else each for each in found]


_PLACE = "\ue001"  # for a cut, where the text is split at the sign that stands for one


def _is_word(word: str) -> bool:
    if _SPACELESS.search(word):
        return len(word) <= LONGEST_RUN and all(char.isalpha() or char in "ーー々" or _is_mark(char) for char in word)
    return len(word) <= LONGEST_WORD and all(char.isalpha() or char == "'" or _is_mark(char) for char in word)


def _is_mark(char: str) -> bool:
    return "\u0300" <= char <= "\u036f" or "\u0900" <= char <= "\u0dff" or "\u0e30" <= char <= "\u0e4e"


class _Asked:
    """The request, as far as it is looked at: whether a word stands in it."""

    def __init__(self, asked: Callable[[], bytes] | None) -> None:
        body = asked() if asked is not None else b""
        self.body = body.lower() if 0 < len(body) <= MOST_ASKED else None

    def words(self, shape: Sequence[str]) -> list[str]:
        """Those of these words that may be kept, and a sign for each gap."""
        kept = [word if word in (CUT, _MODEL) or self._may_stay(word) else CUT for word in shape]
        if self.body is not None:
            runs = [kept[start : start + ECHO] for start in range(len(kept) - ECHO + 1)]
            for start, run in enumerate(runs):
                if CUT not in run and _MODEL not in run and self._has(" ".join(run)):
                    kept[start : start + ECHO] = [CUT] * ECHO
        told: list[str] = []
        for word in kept:
            if word != CUT or (told and told[-1] != CUT):
                told.append(word)
        return told[:-1] if told and told[-1] == CUT else told

    def code(self, code: str) -> str:
        """A code or a type, unless one of its words stands in the request and is no common one."""
        words = [part for part in _parts(code) if part and part not in COMMON and not part.isdecimal()]
        return code if not words or (self.body is not None and not any(map(self._has, words))) else ""

    def _may_stay(self, word: str) -> bool:
        if word in COMMON:
            return True
        if self.body is None:
            return False
        if _SPACELESS.search(word) and len(word) > ECHO:
            return not any(self._has(word[at : at + ECHO]) for at in range(0, len(word) - ECHO + 1, 2))
        return not self._has(word)

    def _has(self, text: str) -> bool:
        assert self.body is not None
        if text.encode("utf-8", "surrogatepass") in self.body:
            return True
        return not text.isascii() and json.dumps(text)[1:-1].lower().encode() in self.body


# What a filter says of itself, in the languages that relays use. Rather too much than too little: a reply that reads
# like this is never sent elsewhere to see whether another candidate would let it pass.
_POLICY = re.compile(
    r"\bpolic(?:y|ies)\b|\bmoderat|\bsafety\b|\bunsafe\b|\bsafeguard|\bguardrail|content[ _-]?(?:filter|check|review)"
    r"|\bfilter|\bviolat|\bharm|\bflagged\b|\binappropriate|prohibited|sensitive|\brisk"
    r"|invalid[ _]prompt|\bguidelines?\b|\bnsfw\b"
    r"|\b(?:request|prompt|content|input|message|response|output) (?:was |is |has been )?(?:blocked|rejected)"
    r"|\bterms of (?:service|use)|\babus|\bsexual|\bviolen|\bhate(?:ful)?\b|\bobscen|\boffensive|\bcensor|\bjailbreak"
    r"|\bcopyright|\brecitation|\bblock ?list|\bresponsible ai\b|\bacceptable use|\bdisallowed\b|\bcompliance\b"
    r"|\bsuspicious\b|\bdangerous\b|\bweapon|\bmalicious|\brefusal\b|\b(?:not|unable to|can(?:no|')t) (?:help|assist)\b"
    r"|敏感|违规|违反|审核|審核|安全|风控|風控|不当|不當|违法|違法|違規|屏蔽|拦截|过滤|過濾|有害|色情|暴力|政策|合规"
    r"|ポリシー|規約|ガイドライン|不適切|違反|モデレーション|フィルタ|センシティブ|検閲"
    r"|정책|유해|부적절|위반|안전|검열|필터|가이드라인"
    r"|политик|модерац|безопасност|недопустим|\bправил(?:а|ам|ами|ах)?\b|\bнаруш|цензур|фильтр|оскорб|вредонос"
    r"|запрещ[её]нн(?:ый|ое|ого|ые) (?:контент|содерж|тем)"
    r"|pol[ií]tica|diretri[zc]|directri[zc]|\bviola|modera[çc]|moderazi|impr[óo]pri|inapropiad|inappropri|ofensiv"
    r"|conte[úu]do (?:sens|proib|bloque|filtr)|seguran[çc]a|seguridad|sicurezza|nociv|prejudicial|filtro|linee guida"
    r"|politique|mod[ée]ration|s[ée]curit[ée]|enfrei|nuisible|filtre|contraire aux"
    r"|richtlinie|versto(?:ß|ss)|verst(?:ö|oe)(?:ß|ss)t|unangemessen|sch(?:ä|ae)dlich|sicherheits|anst(?:ö|oe)(?:ß|ss)ig"
    r"|zasad|narusz|politika|ihlal|ch[ií]nh s[aá]ch|vi ph[aạ]m|kebijakan|melanggar|سياسة|ينتهك|नीति"
)
_OTHER_POLICIES = re.compile(
    r"guardrail restrictions"
    r"|\b(?:privacy|cookies?|cors|cache|data|retry|referrer|refund|shipping) (?:policy|policies)\b"
)


def reads_like_policy(reply: Reply) -> bool:
    """Whether an error may be a filter's, in words that no rule knows."""
    if reply.errors:
        texts = [f"{info.code} {info.type} {info.message[:2048]}".lower() for info in reply.errors]
    else:
        texts = [_page(reply) or reply.folded_text[:2048]]
    return any(_POLICY.search(_OTHER_POLICIES.sub(" ", text)) is not None for text in texts)
