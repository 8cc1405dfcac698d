"""When a reply says that another try makes sense."""

from __future__ import annotations

import json
import re
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.codec import patterns
from understudy.codec.pattern_cost import Cost
from understudy.replies import hints
from understudy.replies.hints import ABSURD, Hint, read_hint, sent_at
from understudy.replies.reply import Reply

NOW = 1_780_000_000.0
HOUR, DAY = 3600, 86400


def reply(body: object = "", status: int = 429, **headers: str) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return Reply(
        status=status,
        body=text.encode(),
        headers=tuple((key.replace("_", "-"), value) for key, value in headers.items()),
    )


def quota(quota_id: str) -> dict[str, object]:
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38s"}
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [failure, retry]}}


DAILY = quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
MINUTELY = quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")


def said(message: str) -> dict[str, object]:
    return {"error": {"message": message}}


@pytest.mark.parametrize(
    ("given_reply", "seconds", "source"),
    [
        (reply(Retry_After="20"), 20, "retry-after"),
        (reply(retry_after="0.5"), 0.5, "retry-after"),
        (reply(retry_after=formatdate(NOW + 90, usegmt=True)), 90, "retry-after"),
        (reply(retry_after_ms="1500", retry_after="2"), 1.5, "retry-after-ms"),
        *(
            (reply(retry_after=f"{space}20{space}"), 20, "retry-after")
            for space in "\t\x0b\x1c\x1f\x85\xa0\u2003\u3000"
        ),
        (
            reply({"error": {"code": 429, "details": [{"@type": "x/Help"}, {"@type": "x", "retryDelay": "38.5s"}]}}),
            38.5,
            "retry-info",
        ),
        (reply([{"error": {"details": [{"retryDelay": "7s"}]}}]), 7, "retry-info"),
        (reply({"error": {"type": "usage_limit_reached", "resets_in_seconds": 13872}}), 13872, "resets_in_seconds"),
        (reply({"error": {"type": "usage_limit_reached", "resets_at": NOW + 300}}), 300, "resets_at"),
        (
            reply(anthropic_ratelimit_unified_reset=str(int(NOW) + 600)),
            600,
            "anthropic-ratelimit-unified-reset",
        ),
        (
            reply(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="6m0s"),
            360,
            "x-ratelimit-reset-requests",
        ),
        (
            reply(
                anthropic_ratelimit_tokens_remaining="0",
                anthropic_ratelimit_tokens_reset="2026-05-28T20:27:40Z",
            ),
            60,
            "anthropic-ratelimit-tokens-reset",
        ),
        (reply(x_ratelimit_remaining="0", x_ratelimit_reset=str(int(NOW + 30) * 1000)), 30, "x-ratelimit-reset"),
        (reply(said("Please try again in 1m3.5s. Visit https://x")), 63.5, "message"),
        (reply(said("Please try again in 174ms.")), 0.174, "message"),
        (reply(said("Please try again in 9m38.016s")), 578.016, "message"),
        (reply(said("Please retry after 60 seconds.")), 60, "message"),
        (reply(said("Try again in 2 hours and 5 minutes")), 7500, "message"),
        (reply(said("请求过于频繁: 请30秒后再试")), 30, "message"),
        (reply({"type": "error", "error": {"message": "try again in 3s"}}, status=200), 3, "message"),
        (reply(said("Please try again in 26.604s."), retry_after="26"), 26.604, "message"),
        (reply(said("Please try again in 90s."), retry_after="26"), 26, "retry-after"),
        # Milliseconds where seconds belong, and times where a span belongs.
        (reply(said("Please try again in 26.604s."), retry_after="26604"), 26.604, "message"),
        (reply(retry_after=str(int(NOW) + 45)), 45, "retry-after"),
        (reply(retry_after=str((int(NOW) + 45) * 1000)), 45, "retry-after"),
        (
            reply(anthropic_ratelimit_unified_reset=str((int(NOW) + 600) * 1000)),
            600,
            "anthropic-ratelimit-unified-reset",
        ),
        (reply({"error": {"message": "x", "resets_at": (NOW + 300) * 1000}}), 300, "resets_at"),
        # NOW is 20:26:40 UTC on 28 May 2026: 13:26:40 in California.
        (reply(DAILY), 10 * 3600 + 33 * 60 + 20, "quota-id"),
        (reply(MINUTELY), 38, "retry-info"),
    ],
)
def test_promises_are_read(given_reply: Reply, seconds: float, source: str) -> None:
    """L01: seconds and dates in headers, structured fields and sentences all give the same kind of hint."""
    hint = read_hint(given_reply, NOW)
    assert hint is not None
    assert hint.source == source
    assert hint.seconds == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("message", "host", "seconds"),
    [
        # NOW is 20:26:40 UTC on 28 May 2026.
        ("Usage limit reached for 5 hour. Your limit will reset at 2026-05-29 06:26:40", "api.z.ai", 2 * HOUR),
        ("Usage limit reached. Your limit will reset at 2026-05-28 22:26:40", "relay.example", 2 * HOUR),
        ("[1308][Your limit will reset at 2026-05-29 04:31:40][20260529]", "open.bigmodel.cn", 300),
        ("您的限额将在 2026-05-29 06:26:40 重置", "relay.example", 2 * HOUR),
        ("额度已用尽,请于2026年5月29日 06:26后重试", "relay.example", 2 * HOUR - 40),
        ("5-hour usage limit reached, resets at 2026-05-28T23:26:40Z (2056)", "", 3 * HOUR),
        ("resets at 2026-05-28T23:26:40+02:00", "", HOUR),
        ("You will regain access on 2026-06-01 at 00:00 UTC.", "", 3 * DAY + 3 * HOUR + 2000),
        ("Your quota resets on 2026-05-29.", "", 3 * HOUR + 2000),
        ("Please try again in 58 hours. Please review our terms.", "", 58 * HOUR),
        ("try again in 3 days 4 hours 9 minutes", "", 3 * DAY + 4 * HOUR + 9 * 60),
        ("You've hit your limit · resets 8pm (America/New_York)", "", 3 * HOUR + 2000),
        ("Your limit will reset at 10pm.", "", HOUR + 2000),
        ("Your limit will reset at 3:30 PM", "", 19 * HOUR + 200),
        ("resets May 30 at 7am (Asia/Calcutta)", "", DAY + 5 * HOUR + 200),
        ("try again at Jun 1st, 2026 12:26 AM.", "", 3 * DAY + 4 * HOUR - 40),
        ("resets Jan 2 at 12am", "", 218 * DAY + 3 * HOUR + 2000),
        ("Model not supported (reset after 30s)", "", 30),
        ("You have used all of today's free usage. Come back in 3h 47m.", "", 3 * HOUR + 47 * 60),
    ],
)
def test_times_in_sentences(message: str, host: str, seconds: float) -> None:
    """L01: a date or a time of day, in the zone that it names, else in the vendor's where that is known, else UTC."""
    hint = read_hint(Reply(429, host=host, body=json.dumps(said(message)).encode()), NOW)
    assert hint is not None
    assert hint.seconds == pytest.approx(seconds)
    assert hint.source == "message"


def test_when_a_reply_was_sent() -> None:
    assert sent_at(reply(date=formatdate(NOW, usegmt=True))) == NOW
    for odd in ("", "yesterday", "Thu, 32 Foo 99999 99:99:99 GMT"):
        assert sent_at(reply(date=odd)) == 0


@pytest.mark.parametrize(
    "given_reply",
    [
        reply(said("Your limit will reset at 2026-05-28 19:00:00")),
        reply(said("resets at 2026-13-45 99:99:99")),
        reply(said("resets at 25pm")),
        reply(said("resets Feb 30 at 7am")),
        reply(said("The model was retired on 2026-12-01")),
        reply(said("resets soon")),
        reply(retry_after="-5"),
        reply(retry_after="0"),
        reply(retry_after="NaN"),
        reply(retry_after="inf"),
        reply(retry_after="1e9"),
        reply(retry_after="soon"),
        reply(retry_after=""),
        reply(retry_after=formatdate(NOW - 90, usegmt=True)),
        reply(retry_after="Thu, 32 Foo 99999 99:99:99 GMT"),
        reply(retry_after=str(10**15)),
        reply(anthropic_ratelimit_unified_reset=str(int(NOW) - 600)),
        reply({"error": {"message": "x", "resets_in_seconds": True}}),
        reply({"error": {"message": "x", "resets_in_seconds": -3}}),
        reply({"error": {"message": "x", "resets_at": NOW - 3}}),
        reply({"error": {"message": "x", "details": [{"retryDelay": "-3s"}]}}),
        reply(said("Please try again in 0s")),
        reply(said("Please try again later")),
        reply(x_ratelimit_remaining_requests="5", x_ratelimit_reset_requests="6m0s"),
        reply(x_ratelimit_remaining="0", x_ratelimit_reset="30"),  # seconds, or a time? Not clear
        reply(status=400, anthropic_ratelimit_unified_reset=str(int(NOW) + 600)),
        reply({"choices": [{"message": {"content": "try again in 5s"}}]}, status=200),
    ],
)
def test_nonsense_is_no_hint(given_reply: Reply) -> None:
    """L03: negative, not a number, in the past, absurd or unclear: no hint."""
    assert read_hint(given_reply, NOW) is None


def test_days_are_returned_uncapped() -> None:
    """L03: how long is too long is the caller's decision."""
    assert read_hint(reply(retry_after="459202"), NOW) == Hint(459202.0, "retry-after")


def test_nonsense_in_one_place_does_not_hide_sense_in_another() -> None:
    hint = read_hint(reply(said("Please try again in 5s"), retry_after="-1"), NOW)
    assert hint == Hint(5.0, "message")


VALUES = st.one_of(
    st.text(max_size=30), st.floats().map(str), st.integers().map(str), st.sampled_from(["1m", "-1s", "2026-99-99T"])
)
NAMES = st.sampled_from(
    ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-remaining", "anthropic-ratelimit-unified-reset"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["error", "details", "retryDelay", "resets_at", "resets_in_seconds", "message", "metadata"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), JSON, st.floats(0, 4e9))
def test_hostile_replies_never_raise(headers: list[tuple[str, str]], body: object, now: float) -> None:
    hint = read_hint(Reply(status=429, headers=tuple(headers), body=json.dumps(body).encode()), now)
    assert hint is None or 0 < hint.seconds <= ABSURD


EXPRESSIONS = {name: value.pattern for name, value in vars(hints).items() if isinstance(value, re.Pattern)}


@pytest.mark.parametrize("name", sorted(EXPRESSIONS))
def test_h02_what_is_looked_for_in_a_message_costs_in_proportion_to_its_length(name: str) -> None:
    """H02: a message of digits alone took 60 ms for its square."""
    tree: Any = patterns._tree(EXPRESSIONS[name])
    cost = Cost(tree, tree.state.flags)
    assert cost.steps(1 << 16) < 17 * cost.steps(1 << 12)
