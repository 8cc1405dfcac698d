"""An exchange as a table that a person reads: who was asked, what each one said, who was passed over and why.

It is made from the facts that a flow carries, so it reads the same for a flow that was saved a year ago. A flow's
metadata may have been written by any program: whatever is missing or odd is left out, and nothing here raises.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from understudy.codec.time_text import duration
from understudy.model import OPEN_MARK, counted
from understudy.proxy.exchange_facts import Facts

COMPARED = {
    "candidate": "another candidate answers the same request",
    "request": "another candidate refuses it too",
    "undecided": "another candidate cannot tell",
    "known_candidate": "known to be its own fault",
    "known_request": "known, so no other candidate is asked",
    "alike": "all candidates refuse alike",
}
"""What became of an open verdict, in words."""
WIDEST_NAME = 40
"""Characters for a candidate's name; longer ones are cut."""
WIDEST_TEXT = 90
"""Characters of what is said about a candidate on one line."""
MOST = 1e12
"""No number that we write is larger."""


def table(facts: Facts) -> str:
    """The whole exchange, or the one attempt when these are an attempt's facts."""
    lines = [_head(facts), ""]
    rows = [_row(facts)] if "attempt" in facts else _rows(facts)
    width = max((len(name) for _, name, _ in rows), default=0)
    for place, name, said in rows:
        # Long evidence goes on below itself: what looks at flows cuts long lines off at the edge.
        first, *rest = textwrap.wrap(said, WIDEST_TEXT, break_on_hyphens=False, break_long_words=False) or [""]
        lines.append(f"{place:>5}  {name:<{width}}  {first}".rstrip())
        lines += [f"{'':>5}  {'':<{width}}    {line}" for line in rest]
    if "attempt" not in facts:
        lines += ["", *_ending(facts)]
    return "\n".join(lines).rstrip()


def _head(facts: Facts) -> str:
    call = " ".join(filter(None, [_text(facts, "dialect"), _text(facts, "endpoint")]))
    streamed = ", streamed" if facts.get("streamed") is True else ""
    mode = _text(facts, "mode")
    mode = f", {mode}" if mode not in ("", "enforce") else ""
    mode += ", in a drill" if facts.get("drill") is True else ""
    what = f"attempt {_number(facts, 'attempt'):.0f} of exchange" if "attempt" in facts else "exchange"
    return (
        f"understudy: {what} {_text(facts, 'exchange')}, {_text(facts, 'alias')} by route {_text(facts, 'route')} "
        f"({call}{streamed}{mode})"
    )


def _rows(facts: Facts) -> list[tuple[str, str, str]]:
    tried = _list(facts, "tried")
    waits = _list(facts, "waits")
    rows: list[tuple[str, str, str]] = []
    for entry in tried:
        rows += _waits(waits, entry.get("number"))
        rows.append(_row(entry))
    last = len(tried) + 1
    rows += [row for wait in waits if _number(wait, "before") >= last for row in _waits([wait], wait.get("before"))]
    if isinstance(observed := facts.get("observed"), dict):
        rows.append(("", "the tool's own credential", _row(observed)[2]))
    if name := _text(facts, "cancelled"):
        rows.append(("", _cut(name), "cancelled, the tool went away"))
    seen = {_name(entry) for entry in tried} | {_cut(name)}
    for entry in _list(facts, "skipped"):
        if _name(entry) not in seen:
            seen.add(_name(entry))
            rows.append(("-", _name(entry), f"skipped: {_text(entry, 'why')}"))
    names = facts.get("candidates")
    listed = [_cut(each) for each in names if isinstance(each, str)] if isinstance(names, list) else []
    rows += [("-", each, "not asked") for each in dict.fromkeys(listed) if each not in seen]
    if (more := _number(facts, "of") - len(listed)) > 0:
        rows.append(("", f"and {more:.0f} more", ""))
    return rows


def _waits(waits: list[Facts], number: object) -> list[tuple[str, str, str]]:
    return [
        ("", "", f"waited {_number(wait, 'seconds'):.1f}s: {_text(wait, 'why')}")
        for wait in waits
        if wait.get("before") == number
    ]


def _row(entry: Facts) -> tuple[str, str, str]:
    label, rule = _text(entry, "label"), _text(entry, "rule")
    status = f"{_number(entry, 'status'):.0f} " if _number(entry, "status") else ""
    mark = OPEN_MARK if entry.get("open") is True else ""
    said = f"{status}{label} by {rule}{mark}" if rule else f"{status}{label}"
    if isinstance(suspended := entry.get("suspended"), dict):
        said += f", {_text(suspended, 'what').partition(' ')[0]} suspended {duration(_number(suspended, 'seconds'))}"
    if why := COMPARED.get(_text(entry, "compared")):
        said += f", {why}"
    if evidence := _text(entry, "evidence"):
        said += f": {evidence}"
    if left_out := _number(entry, "left_out"):
        said += f", without {counted(round(left_out), 'sealed part')}"
        if moved_from := _text(entry, "moved_from"):
            said += f", moved from {moved_from}"
    again = " (again)" if entry.get("again") is True else ""
    if entry.get("second_opinion") is True:
        again = " (second opinion)"
    if drill := _text(entry, "drill"):
        again += f" (drill: {drill})"
    return f"{_number(entry, 'number') or _number(entry, 'attempt'):.0f}", f"{_name(entry)}{again}", said


def _ending(facts: Facts) -> list[str]:
    answer = facts.get("answer")
    after = f" after {_number(facts, 'released'):.2f}s" if "released" in facts else ""
    if _text(facts, "mode") in ("observe", "advise"):
        lines = [f"enforce would have {told}"] if (told := advised(facts.get("advice"))) else []
    elif answer == 0:
        lines = [f"understudy answered itself{after}"]
    elif isinstance(answer, int) and 0 < answer < MOST:
        lines = [f"the tool got the reply of attempt {answer}, {_name(facts)}{after}"]
    elif "cancelled" in facts or "seconds" in facts:
        lines = ["the tool got no reply"]
    else:
        lines = ["under way"]
    if isinstance(bound := facts.get("bound"), dict):
        lines.append(f"only {_text(bound, 'to')} could be asked: {_text(bound, 'by')} belongs to it")
    if isinstance(ended := facts.get("ended"), dict):
        lines.append(f"after that the stream ended in an error: {_row(ended)[2]}")
    return lines


def advised(advice: object) -> str:
    """What enforce would have done, to be read after "would have"; "" when nothing is known."""
    if not isinstance(advice, dict):
        return ""
    if instead := _text(advice, "instead"):
        return instead
    steps = [f"suspended {suspends}"] if (suspends := _text(advice, "suspends")) else []
    steps += [then] if (then := _text(advice, "then")) else []
    return f"asked {_text(advice, 'asks')}" + (f", and after a reply like this {' and '.join(steps)}" if steps else "")


def _name(entry: Facts) -> str:
    return _cut(f"{_text(entry, 'credential')} {_text(entry, 'model')}".strip())


def _cut(name: str) -> str:
    return name if len(name) <= WIDEST_NAME else f"{name[: WIDEST_NAME - 1]}…"


def _text(facts: Mapping[str, Any], key: str) -> str:
    value = facts.get(key, "")
    return value if isinstance(value, str) else ""


def _number(facts: Mapping[str, Any], key: str) -> float:
    value = facts.get(key, 0)
    return value if isinstance(value, int | float) and abs(value) < MOST else 0


def _list(facts: Facts, key: str) -> list[Facts]:
    value = facts.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list | tuple) else []
