"""A draft of a rule from a saved reply: a file that loads, matches that reply, and waits for a person to finish it.

What goes into the file is short and holds no credential: of the headers only those that rules look at, of the body only
what is left when everything that was sent as a credential, or looks like one, is masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from understudy.authoring.reply_file import Saved
from understudy.codec.yaml_nodes import RuleError
from understudy.model import Label
from understudy.rules import NO_SOURCE, parse_rule

KEPT_HEADERS = ("retry-after", "x-amzn-errortype", "x-should-retry")
"""Response headers that may go into an example."""
LONGEST_TEXT = 300
MOST_ITEMS = 12
DEEPEST = 8

_GENERIC = frozenset({
    "error", "api_error", "server_error", "internal_error", "internal_server_error", "invalid_request",
    "invalid_request_error", "bad_request", "badrequest", "bad_request_error", "not_found", "not_found_error",
    "forbidden", "permission_denied", "unknown", "unknown_error", "none", "null", "invalid_argument", "failed",
    "new_api_error", "upstream_error", "bad_response_status_code",
})  # fmt: skip
"""Codes that say nothing by themselves."""


class DraftError(ValueError):
    """There is nothing in the reply that a rule could look at."""


def draft(saved: Saved, identity: str, label: Label, source: str = "") -> str:
    """The text of a rule file. Raises DraftError."""
    reply = saved.reply
    if reply.succeeded and not reply.errors:
        raise DraftError("it is a success without an error object: no rule is asked about it")
    lines = [
        f"id: {identity}",
        f"label: {label}",
        f"about: {quoted('Write here what the vendor means by it.')}",
        f"source: {quoted(source or NO_SOURCE)}",
        "# A draft is only logged. Read it, shorten it, write a real near miss, run `understudy rules test`,",
        "# and make it stable.",
        "status: draft",
        "when:",
        *(f"  {key}: {quoted(value)}" for key, value in _conditions(saved)),
        "examples:",
        "  matches:",
        f"    - {_example(saved)}",
        "  near_misses:",
        f"    - {{status: {reply.status}, body: {{error: {{message: {quoted('Something else is wrong.')}}}}}}}",
    ]
    text = "\n".join(lines) + "\n"
    try:
        rule = parse_rule(text, identity, identity)
    except RuleError as error:
        raise DraftError(f"no rule could be made of it: {error}") from None
    if not rule.matches_reply(rule.matches[0].reply) or rule.matches_reply(rule.near_misses[0].reply):
        raise DraftError("there is nothing in it but its status, and a status is not enough for a rule")
    return text


def _conditions(saved: Saved) -> Iterator[tuple[str, str]]:
    said = next((info for info in saved.reply.said if info.message or info.code or info.type), None)
    if said is None:
        passage = _passage(saved.masked(re.sub(r"<[^<>]{0,200}>", "\n", saved.reply.folded_text)))
        if not passage:
            raise DraftError("it has no error and no text that a rule could look at")
        yield "text|contains", passage
        return
    for name, value in (("code", said.code), ("type", said.type)):
        if value and not value.isdecimal() and value not in _GENERIC and saved.masked(value) == value:
            yield name, value
            return
    if said.code.isdecimal() and said.code != str(saved.reply.status):
        yield "code", said.code
    if passage := _passage(saved.masked(said.message)):
        yield "message|contains", passage


def _passage(text: str) -> str:
    """The longest piece without numbers, quotes and cuts: those are different in the next reply."""
    pieces = re.split(r"\S*(?:\d|\.\.\.|<understudy)\S*|[\"'`“”,;:]+(?:\s|$)|(?<=\.)\s|\n", text[:400])
    longest = max((piece.strip(" .\"'`“”()[]<>") for piece in pieces), key=len, default="")
    if len(longest) > 100:
        longest = longest[:100].rpartition(" ")[0]
    return longest if len(longest) >= 6 or not longest.isascii() else ""


def _example(saved: Saved) -> str:
    reply = saved.reply
    parts = [f"status: {reply.status}"]
    for name in ("dialect", "model"):
        if value := getattr(reply, name):
            parts.append(f"{name}: {quoted(saved.masked(value))}")
    headers = {name: value for name in KEPT_HEADERS if (value := reply.header(name))}
    if headers:
        parts.append(f"headers: {_flow(saved, headers)}")
    parsed = reply.json
    body = parsed if isinstance(parsed, dict | list) else reply.text[:LONGEST_TEXT]
    return "{" + ", ".join([*parts, f"body: {_flow(saved, body)}"]) + "}"


def _flow(saved: Saved, value: object, depth: int = 0) -> str:
    """A value in YAML's flow style, masked and cut."""
    match value:
        case dict() if depth < DEEPEST:
            items = [
                f"{quoted(saved.masked(str(key)))}: {_flow(saved, item, depth + 1)}"
                for key, item in list(value.items())[:MOST_ITEMS]
            ]
            return "{" + ", ".join(items) + "}"
        case list() if depth < DEEPEST:
            return "[" + ", ".join(_flow(saved, item, depth + 1) for item in value[:MOST_ITEMS]) + "]"
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if abs(value) < 10**15:
            return str(value)
    text = saved.masked(str(value))
    return quoted(text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT])


def quoted(text: str) -> str:
    """A text in YAML's double quotes, printable whatever it holds."""
    pieces = []
    for char in text:
        if char in '"\\':
            pieces.append("\\" + char)
        elif char == "\n":
            pieces.append("\\n")
        elif char.isprintable() and ord(char) < 0xD800:
            pieces.append(char)
        elif 0xD800 <= ord(char) < 0xE000:
            pieces.append("?")
        else:
            pieces.append(f"\\U{ord(char):08x}")
    return '"' + "".join(pieces) + '"'
