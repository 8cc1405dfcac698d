"""When a reply says that another try makes sense."""

from __future__ import annotations

import json
import re
from email.utils import formatdate
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.codec import patterns
from understudy.codec.pattern_cost import Cost
from understudy.replies import hints
from understudy.replies.hints import ABSURD, Hint, read_hint, seconds_until, sent_at
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


def test_where_the_system_knows_no_time_zones_midnight_in_california_is_that_of_winter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(name: str) -> None:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr("zoneinfo.ZoneInfo", unknown)
    assert read_hint(reply(DAILY), NOW) == Hint(11 * 3600 + 33 * 60 + 20, "quota-id")


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


# -- where a promise begins to be one ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_reply", "seconds"),
    [
        # The bounds of what is believed.
        (reply(retry_after=str(int(ABSURD))), ABSURD),
        (reply(retry_after=str(int(ABSURD) + 1)), None),
        (reply({"error": {"message": "x", "retry_after": ABSURD + 1}}), None),
        (reply({"error": {"message": "x", "retry_after": 0.001}}), 0.001),
        (reply({"error": {"message": "x", "retry_after": 0}}), None),
        # What a sentence adds to a header: fractions of the same second, or its unit.
        (reply(said("try again in 26s"), retry_after="26"), 26),
        (reply(said("try again in 26.5s"), retry_after="26"), 26.5),
        (reply(said("try again in 27s"), retry_after="26"), 26),
        (reply(said("try again in 25.5s"), retry_after="26"), 26),
        (reply(said("try again in 25.5s"), retry_after="26000"), 25.5),
        (reply(said("try again in 26.5s"), retry_after="26000"), 26.5),
        (reply(said("try again in 25s"), retry_after="26000"), 26000),
        (reply(said("try again in 27s"), retry_after="26000"), 26000),
        (reply(said("try again in 26.5s"), retry_after_ms="26000"), 26),
        # Headers of windows, used up and not.
        *(
            (reply("", 429, **{f"x_ratelimit_remaining_{what}": "0", f"x_ratelimit_reset_{what}": "2s"}), 2)
            for what in ("requests", "tokens", "input_tokens", "output_tokens")
        ),
        *(
            (reply("", 429, **{f"{name}_remaining": "0", f"{name}_reset": "2s"}), 2)
            for what in ("requests", "tokens", "input_tokens", "output_tokens")
            for name in [f"anthropic_ratelimit_{what}"]
        ),
        (reply(x_ratelimit_remaining_tokens="0", x_ratelimit_reset_requests="2s"), None),
        (reply(x_ratelimit_remaining_tokens="1", x_ratelimit_reset_tokens="2s"), None),
        (reply(x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="5"), None),
        (reply(x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="2026-05-28 20:27:40"), 60),
        (reply(x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="2026-05-28T20:27:40z"), 60),
        (reply(x_ratelimit_remaining="1", x_ratelimit_reset=str(int(NOW) + 30)), None),
        (reply(x_codex_primary_reset_after_seconds="77"), 77),
        (reply(status=503, x_codex_primary_reset_after_seconds="77"), None),
        # Fields of a body, in each place.
        *(
            (reply({"error": {"message": "x"}} | place), 9)
            for place in (
                {"error": {"message": "x", "resets_in_seconds": 9}},
                {"response": {"error": {"retry_after": "9"}}},
                {"detail": {"reset_seconds": 9.0}},
                {"error": {"metadata": {"retry_after_seconds": "9s"}}},
                {"retryAfter": " 9 "},
                {"resets_at": NOW + 9},
                {"detail": {"reset_at": str(int(NOW) + 9)}},
                {"resetsAt": (NOW + 9) * 1000},
                {"resetsAt": "2026-05-28T20:26:49Z"},
                {"error": {"details": [{"retryDelay": {"seconds": 9, "nanos": 0}}]}},
                {"error": {"details": [{"retryDelay": {"seconds": "9"}}]}},
                {"error": {"metadata": {"headers": {"X-RateLimit-Reset": str(int(NOW + 9) * 1000)}}}},
                {"error": {"metadata": {"headers": {"X-RateLimit-Reset": int(NOW) + 9}}}},
            )
        ),
        (reply({"error": {"message": "x"}, "resets_at": True}), None),
        (reply({"error": {"message": "x"}, "resets_at": [NOW + 9]}), None),
        (reply({"error": {"message": "x"}, "resets_at": ["9s"]}), None),
        (reply({"error": {"message": "x"}, "resets_at": "2026-05-28T22:26:49." + "0" * 14 + "+02:00"}), 9),
        (reply({"error": {"message": "x"}, "resets_at": "2026-05-28T22:26:49." + "0" * 15 + "+02:00"}), None),
        (reply({"error": {"message": "x"}, "resets_at": NOW + ABSURD}), None),
        (reply({"error": {"message": "x"}, "resets_at": NOW + ABSURD - 1}), ABSURD - 1),
        (reply({"error": {"message": "x"}, "resets_at": 9}), None),
        (reply({"error": {"message": "x"}, "retry_after": 10**18}), None),
        (reply({"error": {"message": "x"}, "retry_after": [9]}), None),
        (reply({"error": {"message": "x", "details": [{"retryDelay": {"nanos": 0}}]}}), None),
        (reply({"error": {"message": "x", "details": [{"retryDelay": 9}]}}), None),
        (reply({"retry_after": 9}, status=200), None),
        (reply({"error": {"message": "x"}, "retry_after": 9}, status=200), 9),
        (reply('"retry after 9 seconds"'), 9),
        # Durations, unit by unit.
        *(
            (reply(said(f"Please retry in {text}")), seconds)
            for text, seconds in {
                "5ms": 0.005, "5 msecs": 0.005, "5 milliseconds": 0.005, "1 millisecond": 0.001, "5s": 5, "5 sec": 5,
                "1 second": 1, "5m": 300, "5 mins": 300, "2 minutes": 120, "2h": 7200, "1 hr": 3600, "2 hours": 7200,
                "2d": 172800, "1 day": 86400, "1d2h3m4s": 93784, "1h, 2m": 3720, "1.5 hours": 5400, "1m30s": 90,
            }.items()
        ),
        *(
            (reply(said(f"请{text}后重试")), seconds)
            for text, seconds in {"500毫秒": 0.5, "3秒": 3, "2 分钟": 120, "1.5小时": 5400, "1天": 86400}.items()
        ),
        (reply(said("x" * 4083 + " retry in 5s")), 5),
        (reply(said("x" * 4085 + " retry in 5s")), None),
        (reply({"error": {"message": "x"}, "retry_after": "1h " + " " * 96 + "5s"}), 3600),
        (reply({"error": {"message": "x"}, "retry_after": "1h " + " " * 95 + "5s"}), 3605),
    ],
)  # fmt: skip
def test_where_a_promise_begins_to_be_one(given_reply: Reply, seconds: float | None) -> None:
    """L01, L03: just inside, and just outside."""
    hint = read_hint(given_reply, NOW)
    assert (None if hint is None else hint.seconds) == (
        seconds if seconds is None else pytest.approx(seconds, abs=1e-6)
    )


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        # NOW is 20:26:40 UTC on 28 May 2026.
        ("resets at 12pm", 15 * HOUR + 2000),
        ("resets at 12am", 3 * HOUR + 2000),
        ("resets at 12:30 am", 3 * HOUR + 2000 + 1800),
        ("resets at 1pm", 16 * HOUR + 2000),
        ("resets at 13pm", None),
        ("resets at 0am", 3 * HOUR + 2000),
        ("resets at 8:26pm", DAY - 40),
        ("resets at 8:27pm", 20),
        ("resets May 28 at 9pm", 2000),
        ("resets May 28 at 8pm", 365 * DAY - 1600),
        ("resets May 28, 2026 at 8pm", None),
        ("resets Dec 31 at 11:59 pm", 217 * DAY + 3 * HOUR + 1940),
        ("resets at 2026-05-28T23:26:40+0200", HOUR),
        ("resets at 2026-05-28T18:26:40-03:00", HOUR),
        ("resets at 2026-05-28T18:26:40 -0330", HOUR + 1800),
        ("resets at 2026-05-29T23:26:40+24:00", 27 * HOUR),
        ("resets at 2026-05-29T20:26:40+23:59", 60),
        ("resets at 2026-05-28T21:26:40 utc", HOUR),
        ("resets at 2026-05-28T21:26:40 gmt", HOUR),
        ("resets at 2026-05-28 (america/new_york)", None),
        ("resets at 2026-05-29 (america/new_york)", 7 * HOUR + 2000),
        ("resets at 9:26 pm (no/where)", HOUR - 40),
        ("resets at 2026-05-28 21:26", HOUR - 40),
        ("resets at 2026-05-28 21", 2000),
        ("resets at 2027-05-29 20:26:40", 366 * DAY),
        ("resets at 2027-05-29 20:26:41", None),
        ("模型 resets at 2026-05-29 05:26:40", HOUR),
        ("x" * 200 + "模 resets at 2026-05-28 21:26:40", HOUR),
        ("x" * 199 + "模 resets at 2026-05-29 05:26:40", HOUR),
    ],
)
def test_times_that_are_close_to_others(message: str, seconds: float | None) -> None:
    """L01: noon and midnight, today and tomorrow, this year and the next, zones east and west."""
    hint = read_hint(reply(said(message)), NOW)
    assert (hint and hint.seconds) == (seconds and pytest.approx(seconds))


def test_a_time_of_day_that_is_now_is_that_of_tomorrow() -> None:
    at_the_minute = NOW + 20
    assert read_hint(reply(said("resets at 8:27pm")), at_the_minute) == Hint(DAY, "message")
    assert read_hint(reply(said("resets May 28 at 8:27pm")), at_the_minute - 1) == Hint(1, "message")
    assert read_hint(reply(said("resets May 28 at 8:27pm")), at_the_minute) is None


@pytest.mark.parametrize("host", ["z.ai", "api.z.ai", "bigmodel.cn", "open.bigmodel.cn"])
def test_vendors_that_write_times_of_beijing(host: str) -> None:
    body = json.dumps(said("resets at 2026-05-29 05:26:40")).encode()
    assert read_hint(Reply(429, host=host, body=body), NOW) == Hint(HOUR, "message")
    assert read_hint(Reply(429, host=f"x{host.replace('.', '-')}.example", body=body), NOW) == Hint(9 * HOUR, "message")
    assert read_hint(Reply(429, host=f"x{host.rpartition('api.')[2]}", body=body), NOW) == (
        Hint(9 * HOUR, "message") if not host.startswith("open") else Hint(HOUR, "message")
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("5", 5),
        (" 5.5 ", 5.5),
        ("-1", None),
        (str(int(ABSURD)), ABSURD),
        (str(int(ABSURD) + 1), None),
        (str(int(NOW)), 0),
        (str(int(NOW) + 9), 9),
        (str((int(NOW) + 9) * 1000), 9),
        (str(int(NOW) - 9), None),
        (str(int(NOW) + int(ABSURD)), None),
        ("2026-05-28T20:26:49Z", 9),
        ("1m", 60),
        ("366d", ABSURD),
        ("367d", None),
        ("soon", None),
        ("", None),
        (" " * 63 + "5", 5),
        ("5" + " " * 80 + "x", 5),
        ("1h " + "x" * 60 + "5s", 3600),
    ],
)
def test_q01_when_a_header_says_that_a_limit_is_reset(value: str, seconds: float | None) -> None:
    """Q01: in whatever form, and now at the earliest."""
    assert seconds_until(value, NOW) == seconds


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (NOW, 10 * HOUR + 33 * 60 + 20),
        (NOW + 10 * HOUR + 33 * 60 + 19, 1),
        (NOW + 10 * HOUR + 33 * 60 + 20, DAY),
        (1_767_225_600.0, 8 * HOUR),
    ],
)
def test_a_quota_of_a_day_lasts_until_midnight_in_california(now: float, seconds: float) -> None:
    """L01: in summer and in winter (NOW is in May, the last one is New Year in UTC)."""
    assert read_hint(reply(DAILY), now) == Hint(seconds, "quota-id")


def test_a_date_before_1970_is_no_date() -> None:
    assert sent_at(reply(date="Wed, 31 Dec 1969 23:59:59 GMT")) == 0
    assert sent_at(reply(date="Thu, 01 Jan 1970 00:00:01 GMT")) == 1
    assert sent_at(reply(date=" Thu, 01 Jan 1970 00:00:01 GMT" + " " * 80 + "x")) == 1


def test_of_a_date_64_characters_are_read() -> None:
    for blanks, seconds in ((64, 11 * HOUR), (65, 12 * HOUR - 600)):  # the last digit of the zone is cut
        date = "Thu," + "01 Jan 1970 12:00:00 +0100".rjust(blanks - 4)
        assert sent_at(reply(date=f" {date} ")) == seconds
        assert read_hint(reply(retry_after=f" {date} "), 100.0) == Hint(seconds - 100, "retry-after")


def test_a_clock_that_is_far_off_makes_no_hint() -> None:
    """One that stands in 1970, where a span of a year looks like a time; and one beyond all dates."""
    year = reply({"error": {"message": "x"}, "resets_at": ABSURD})
    assert read_hint(year, 100.0) is None
    assert read_hint(reply({"error": {"message": "x"}, "resets_at": ABSURD + 1}), 100.0) == Hint(
        ABSURD - 99, "resets_at"
    )
    assert read_hint(reply(DAILY), 1e18) == Hint(38, "retry-info")
    assert read_hint(reply(said("resets at 8pm")), 1e18) is None


EXPRESSIONS = {name: value.pattern for name, value in vars(hints).items() if isinstance(value, re.Pattern)}


@pytest.mark.parametrize("name", sorted(EXPRESSIONS))
def test_h02_what_is_looked_for_in_a_message_costs_in_proportion_to_its_length(name: str) -> None:
    """H02: a message of digits alone took 60 ms for its square."""
    tree: Any = patterns._tree(EXPRESSIONS[name])
    cost = Cost(tree, tree.state.flags)
    assert cost.steps(1 << 16) < 17 * cost.steps(1 << 12)
