"""When a reply says that another try makes sense: headers, structured fields, sentences.

Vendors promise the same thing in a dozen ways, and some promises are nonsense: negative, in the past, weeks away, not a
number. What is nonsense is no hint; what is merely long is returned as it is, and the caller caps it. The most exact
source wins: structured body fields and headers before words in a sentence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime

from understudy.replies.reply import Reply

ABSURD = 366 * 86400.0
"""Seconds. A promise beyond a year is a mistake (milliseconds taken for seconds, a timestamp taken for a duration)."""


@dataclass(frozen=True, slots=True)
class Hint:
    """How long to wait, in seconds (> 0), and where that was written."""

    seconds: float
    source: str


def read_hint(reply: Reply, now: float) -> Hint | None:
    """The first believable promise of a reply; `now` is Unix time in seconds, for dates and absolute times."""
    first: Hint | None = None
    for seconds, source in _promises(reply, now):
        if seconds is None or not math.isfinite(seconds) or not 0 < seconds <= ABSURD:
            continue
        if first is None:
            first = Hint(seconds, source)
            if source != "retry-after":
                break
        elif first.seconds < seconds < first.seconds + 1:
            return Hint(seconds, source)  # the header was rounded down to whole seconds: a retry then comes too early
        elif abs(first.seconds / 1000 - seconds) < 1:
            return Hint(seconds, source)  # the header says in milliseconds what the body says in seconds
    return first


def sent_at(reply: Reply) -> float:
    """When a reply says that it was sent (Unix time); else 0, which makes every date in it unbelievable."""
    try:
        return max(0.0, parsedate_to_datetime(reply.header("date").strip()[:64]).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return 0.0


def _promises(reply: Reply, now: float) -> Iterator[tuple[float | None, str]]:
    # OpenAI's clients read the header in milliseconds first, because it is the more exact one.
    yield _scaled(_number(reply.header("retry-after-ms")), 0.001), "retry-after-ms"
    yield _retry_after(reply.header("retry-after"), now), "retry-after"
    if reply.errors or not reply.succeeded:
        yield from _body_fields(reply, now)
        yield from _sentences(reply, now)
    yield from _window_headers(reply, now)


def _retry_after(value: str, now: float) -> float | None:
    """RFC 9110, 10.2.3: seconds (also with a fraction, as some vendors send) or an HTTP date; a time in disguise."""
    if (number := _number(value)) is not None:
        return number if number <= ABSURD else _reset(value, now)
    try:
        moment = parsedate_to_datetime(value.strip()[:64])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _until(moment, now)


def _window_headers(reply: Reply, now: float) -> Iterator[tuple[float | None, str]]:
    """Headers that describe a limit's window; they count only on a 429 and where it is clearly used up."""
    if reply.status != 429:
        return
    # Anthropic's unified limit of subscriptions: Unix time in seconds of the reset.
    if (moment := _number(reply.header("anthropic-ratelimit-unified-reset"))) is not None:
        yield _reset(str(moment), now), "anthropic-ratelimit-unified-reset"
    yield _number(reply.header("x-codex-primary-reset-after-seconds")), "x-codex-primary-reset-after-seconds"
    for prefix in ("anthropic-ratelimit", "x-ratelimit"):
        for what in ("requests", "tokens", "input-tokens", "output-tokens"):
            left = f"{prefix}-remaining-{what}" if prefix == "x-ratelimit" else f"{prefix}-{what}-remaining"
            reset = f"{prefix}-reset-{what}" if prefix == "x-ratelimit" else f"{prefix}-{what}-reset"
            if _number(reply.header(left)) == 0 and (value := reply.header(reset)):
                yield _duration_or_date(value, now), reset
    if _number(reply.header("x-ratelimit-remaining")) == 0:
        yield _reset(reply.header("x-ratelimit-reset"), now), "x-ratelimit-reset"


_RESETS_IN = ("resets_in_seconds", "reset_seconds", "retry_after_seconds", "retry_after", "retryAfter")
_RESETS_AT = ("resets_at", "reset_at", "resetsAt")


def _body_fields(reply: Reply, now: float) -> Iterator[tuple[float | None, str]]:
    """Structured fields: Google's RetryInfo, Codex' resets_in_seconds and resets_at, gateways' retry_after."""
    if not isinstance(reply.json, dict | list):
        return
    ids = reply.path("error.details.*.violations.*.quotaId")
    if "PerDay" in str(ids):
        # The delay beside it is that of the next try in the same minute (Gemini API, "Rate limits": requests per day
        # start anew at midnight Pacific time).
        yield _until_midnight(now), "quota-id"
    delays = reply.path("error.details.*.retryDelay")
    for delay in delays if isinstance(delays, list) else ():
        yield _duration(delay) if isinstance(delay, str) else _protobuf(delay), "retry-info"
    for place in ("error.", "response.error.", "detail.", "error.metadata.", ""):
        for name in _RESETS_IN:
            value = reply.path(place + name)
            if value is not None:
                number = _number(value)
                yield _duration(value) if number is None else number, name
        for name in _RESETS_AT:
            value = reply.path(place + name)
            if value is not None:
                yield _reset_at(value, now), name
    # OpenRouter puts the headers of its upstream into the body; the reset is Unix time in milliseconds.
    yield _reset_at(reply.path("error.metadata.headers.X-RateLimit-Reset"), now), "x-ratelimit-reset"


_FIGURE = r"\d{1,15}(?:\.\d{1,15})?"  # bounded: a message may be all digits
_TRY_AGAIN = re.compile(
    r"\b(?:try again|retry|retry again|come back|wait|resets?|available again)"
    r"(?: after| in| for| at least| about| approximately){0,2} "
    rf"((?:{_FIGURE} ?(?:milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)\b"
    rf"[ ,]{{0,2}}(?:and )?){{1,5}}|(?:{_FIGURE}(?:ms|d|h|m|s)){{2,5}})"
)
_CHINESE = re.compile(rf"(?<!\d)({_FIGURE}) ?(毫秒|秒|分钟|小时|天)[之以]?后.{{0,4}}?(?:重试|再试)")
_SENTENCE = 4096  # characters of a message that are searched


def _sentences(reply: Reply, now: float) -> Iterator[tuple[float | None, str]]:
    for info in reply.errors:
        text = info.message[:_SENTENCE].lower()
        if found := _MOMENT.search(text) or _CHINESE_MOMENT.search(text):
            yield _stated(found, _zone_of(reply, text), now), "message"
        elif found := _TIME_OF_DAY.search(text):
            yield _next_time(found, _zone_of(reply, text), now), "message"
        if found := _TRY_AGAIN.search(text):
            yield _duration(found.group(1)), "message"
        elif found := _CHINESE.search(text):
            scale = {"毫秒": 0.001, "秒": 1, "分钟": 60, "小时": 3600, "天": 86400}[found.group(2)]
            yield _scaled(_number(found.group(1)), scale), "message"


# "will reset at 2026-09-04 19:01:25", "resets at ...Z", "regain access on 2027-01-01 at 00:00 UTC"
_WHEN = (
    r"\b(?:resets?|renews?|refresh(?:es)?|(?:re)?gain access|(?:try|available|work|usable) again|retry|restored|until)"
    r"(?: (?:at|on|after|by|until|again)){0,4}:? "
)
_CLOCK = r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?(?::(?P<second>\d\d)(?:\.\d{1,9})?)?"
_OFFSET = r" ?(?P<zone>z\b|utc\b|gmt\b|[+-]\d\d:?\d\d\b|\([a-z]{2,12}(?:[/_][a-z_]{2,20}){1,2}\))?"
_MOMENT = re.compile(_WHEN + r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?:(?:t| at | )" + _CLOCK + r")?" + _OFFSET)
_CHINESE_MOMENT = re.compile(
    r"(?:将(?:于|在)|请(?:于|在)|于|在) ?(?P<year>\d{4})[-/年](?P<month>\d{1,2})[-/月](?P<day>\d{1,2})日? ?(?:"
    + _CLOCK
    + r")? ?(?P<zone>utc\b)?.{0,6}?(?:重置|恢复|刷新|后)"
)
# "resets 8pm (america/new_york)", "try again at 5:30 pm", "resets apr 10 at 7am", "at feb 3rd, 2026 9:21 am"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME_OF_DAY = re.compile(
    _WHEN
    + rf"(?:(?P<month>{'|'.join(_MONTHS)})[a-z]{{0,6}}\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?"
    + r"(?: (?P<year>\d{4}))?,?(?: at)? )?"
    + r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?(?P<half>[ap])\.?m\b\.?"
    + _OFFSET
)
_DATE = ("year", "month", "day", "hour", "minute", "second")
BEIJING = timezone(timedelta(hours=8))
_BEIJING_HOSTS = ("bigmodel.cn", "z.ai")
"""Zhipu and Z.ai write times of Beijing without saying so, in English as well."""


def _zone_of(reply: Reply, text: str) -> tzinfo:
    """The zone of a time that names none: Beijing for a sentence in Chinese and for vendors known for it, else UTC."""
    if any(reply.host == host or reply.host.endswith(f".{host}") for host in _BEIJING_HOSTS):
        return BEIJING
    return BEIJING if any("\u4e00" <= char <= "\u9fff" for char in text[:200]) else UTC


def _zone(name: str) -> tzinfo | None:
    """The zone of this name; None where the system knows none."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # here: few replies name a zone, and this loads a lot

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _named_zone(found: re.Match[str], unnamed: tzinfo) -> tzinfo:
    named = found["zone"] or ""
    if not named:
        return unnamed
    if named in ("z", "utc", "gmt"):
        return UTC
    if named.startswith("("):
        name = "/".join(part.title() for part in named[1:-1].split("/")).replace("_Of_", "_of_")
        return _zone(name) or unnamed
    digits = named[1:].replace(":", "")
    away = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-away if named[0] == "-" else away) if away < timedelta(hours=24) else unnamed


def _stated(found: re.Match[str], unnamed: tzinfo, now: float) -> float | None:
    """Seconds until a date that a sentence states, at midnight when it states no time."""
    year, month, day, hour, minute, second = (int(found[name] or 0) for name in _DATE)
    try:
        return _until(datetime(year, month, day, hour, minute, second, tzinfo=_named_zone(found, unnamed)), now)
    except (ValueError, OverflowError):
        return None


def _next_time(found: re.Match[str], unnamed: tzinfo, now: float) -> float | None:
    """Seconds until a time of day that a sentence states, today or tomorrow, or on the day that it names."""
    zone = _named_zone(found, unnamed)
    hour = int(found["hour"]) % 12 + (12 if found["half"] == "p" else 0)
    try:
        today = datetime.fromtimestamp(now, zone)
        if int(found["hour"]) > 12:
            return None
        clock = time(hour, int(found["minute"] or 0), tzinfo=zone)
        if not found["month"]:
            moment = datetime.combine(today.date(), clock)
            return _until(moment if moment > today else moment + timedelta(days=1), now)
        year = int(found["year"] or today.year)
        moment = datetime.combine(date(year, _MONTHS.index(found["month"]) + 1, int(found["day"])), clock)
        if moment < today and not found["year"]:
            moment = moment.replace(year=year + 1)
        return _until(moment, now)
    except (ValueError, OverflowError, OSError):
        return None


_PART = re.compile(rf"({_FIGURE}) ?(milliseconds?|msecs?|ms|s|m|h|d|sec|min|hr|day|hour|minute|second)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(value: object) -> float | None:
    """Seconds in a text such as "1m3.5s", "38s", "174ms", "9 minutes and 3 seconds"."""
    parts = _PART.findall(value[:100].lower()) if isinstance(value, str) else []
    if not parts or str(value).lstrip().startswith("-"):
        return None
    total = 0.0
    for number, unit in parts:
        total += float(number) * (0.001 if unit.startswith(("ms", "milli")) else _UNITS[unit[0]])
    return total


def _protobuf(value: object) -> float | None:
    """A protobuf Duration as some gateways write it: {"seconds": 20, "nanos": 0}."""
    return _number(value.get("seconds")) if isinstance(value, dict) else None


def _duration_or_date(value: str, now: float) -> float | None:
    """`6m0s` (OpenAI) or an RFC 3339 date (Anthropic). A bare number is not clear: seconds, or a time?"""
    if re.match(r"\d{4}-\d\d-\d\d[tT ]", value):
        return _date(value, now)
    return _duration(value) if _number(value) is None else None


def _reset(value: str, now: float) -> float | None:
    """A bare number is clear only when it is a time: Unix seconds or milliseconds near `now`."""
    number = _number(value)
    if number is None:
        return _duration_or_date(value, now)
    for moment in (number, number / 1000):
        if now - ABSURD < moment < now + ABSURD and moment > ABSURD:
            return moment - now
    return None


def seconds_until(value: str, now: float) -> float | None:
    """Seconds until a reset that a header states in whatever form: a date, a duration, a time, a number of seconds.

    A bare number is a time (Unix, in seconds or milliseconds) where it can be one, else seconds. None for what cannot
    be read, and for what is past or more than a year away. ``now``: Unix time.
    """
    text = value.strip()[:64]
    number = _number(text)
    seconds = _reset(text, now) if number is None or number > ABSURD else number
    return seconds if seconds is not None and 0 <= seconds <= ABSURD else None


def _until_midnight(now: float) -> float:
    """Seconds until the next midnight in California; an hour late in summer where the system knows no time zones."""
    zone = _zone("America/Los_Angeles") or timezone(timedelta(hours=-8))
    try:
        today = datetime.fromtimestamp(now, zone)
        return datetime.combine(today.date() + timedelta(days=1), time.min, zone).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return 0.0


def _reset_at(value: object, now: float) -> float | None:
    return _reset(str(value), now) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _date(value: str, now: float) -> float | None:
    try:
        return _until(datetime.fromisoformat(value.strip()[:40].replace("z", "Z")), now)
    except (ValueError, OverflowError):
        return None


def _until(moment: datetime, now: float) -> float | None:
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return None


def _number(value: object) -> float | None:
    """A plain number, as number or text; None for everything else, booleans and hex included."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e18 else None
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}(?:\.[0-9]{1,18})?\s*", value):
        return float(value.strip())  # `float` knows fewer kinds of space than `\s` and `strip` do
    return None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
