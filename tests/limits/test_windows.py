"""What is kept of limits: until they begin anew, bounded, without secrets; and what it says of a candidate (Q01)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from tests.support.decisions import NOW, Clock, candidate
from understudy.limits import NO_NEED, Limits, Need, Stored, Whose, Window
from understudy.limits import windows as module
from understudy.limits.windows import (
    FORECAST_FROM,
    MOST_CREDENTIALS,
    MOST_OF_ONE,
    MOST_OUTPUT,
    SAMPLE_EVERY,
    SAMPLES,
    UNDATED,
)
from understudy.model import Candidate

OPUS, SONNET = candidate("plan", "claude-opus-4-5"), candidate("plan", "claude-sonnet-4-5")
OTHER = candidate("other", "claude-opus-4-5")


class Heard:
    """Limits under a clock by hand."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.limits = Limits(self.clock)

    def plan(self, who: Candidate, *, reset: float = 7200.0, **used: float) -> None:
        """A reply of a subscription: ``h5=0.3`` is the window of five hours, ``d7`` that of the week."""
        headers = []
        for name, share in used.items():
            window = {"h5": "5h", "d7": "7d"}.get(name, name)
            headers.append((f"anthropic-ratelimit-unified-{window}-utilization", str(share)))
            headers.append((f"anthropic-ratelimit-unified-{window}-reset", str(int(self.clock() + reset))))
        self.limits.hear(who, headers, 0.0)

    def tokens(self, who: Candidate, remaining: int, limit: int = 100_000) -> None:
        headers = {"x-ratelimit-remaining-tokens": str(remaining), "x-ratelimit-limit-tokens": str(limit)}
        self.limits.hear(who, (headers | {"x-ratelimit-reset-tokens": "40s"}).items(), 0.0)

    def names(self, who: Candidate) -> list[str]:
        return [window.name for window in self.limits.of(who)]

    def is_low(self, who: Candidate, reserve: float = 0.02, need: Need = NO_NEED) -> bool:
        return self.limits.is_low(who, reserve, lambda _least: need)


def test_q01_a_window_counts_for_whom_it_is_of() -> None:
    """Q01: the credential, a family of its models, or one of them."""
    heard = Heard()
    heard.plan(OPUS, h5=0.1, d7=0.2, **{"7d_opus": 0.99, "7d_oi": 0.5})
    assert sorted(heard.names(OPUS)) == ["5h", "7d", "7d oi", "7d opus"]
    assert sorted(heard.names(SONNET)) == ["5h", "7d"]
    assert heard.names(OTHER) == []
    assert heard.is_low(OPUS)
    assert not heard.is_low(SONNET)


def test_the_shortest_window_comes_first() -> None:
    heard = Heard()
    heard.plan(OPUS, d7=0.2, h5=0.1)
    assert heard.names(OPUS) == ["5h", "7d"]


def test_a_window_that_has_begun_anew_is_not_known_any_more() -> None:
    heard = Heard()
    heard.plan(OPUS, reset=100, h5=0.995)
    before = heard.limits.version
    assert heard.is_low(OPUS)
    heard.clock.now += 100
    assert not heard.is_low(OPUS)
    assert heard.names(OPUS) == []
    assert heard.limits.version > before


def test_a_window_without_a_reset_counts_for_a_minute() -> None:
    heard = Heard()
    heard.limits.hear(OPUS, [("x-ratelimit-remaining-requests", "0")], 0.0)
    assert heard.is_low(OPUS)
    heard.clock.now += UNDATED
    assert not heard.is_low(OPUS)


def test_q01_fewer_tokens_than_a_request_needs_are_too_few_for_it() -> None:
    """Q01: for a large request, and not for a small one."""
    heard = Heard()
    heard.tokens(OPUS, 30_000)
    assert heard.is_low(OPUS, need=Need(input=40_000))
    assert heard.is_low(OPUS, need=Need(input=10, output=32_000))
    assert not heard.is_low(OPUS, need=Need(input=20_000, output=4_000))


def test_a_request_is_not_looked_into_where_nothing_is_short() -> None:
    heard = Heard()
    heard.tokens(OPUS, 50_000_000, limit=60_000_000)
    heard.plan(SONNET, h5=0.5)

    def need(least: float) -> Need:
        raise AssertionError(least)

    assert not heard.limits.is_low(OPUS, 0.02, need)
    assert not heard.limits.watched
    heard.plan(SONNET, h5=0.99)
    assert heard.limits.is_low(SONNET, 0.02, need)
    assert heard.limits.watched == {"plan"}
    opus = Heard()
    opus.plan(OPUS, h5=0.5, **{"7d_opus": 0.99})
    assert opus.limits.watched == {"plan"}
    assert not opus.limits.is_low(SONNET, 0.02, need), "of the credential's other models one window is low"


def test_the_least_that_is_left_is_told_to_who_looks_into_the_request() -> None:
    heard, told = Heard(), []
    heard.tokens(OPUS, 30_000)
    heard.limits.is_low(OPUS, 0.02, lambda least: told.append(least) or NO_NEED)  # type: ignore[func-returns-value]
    assert told[0] == 30_000 < MOST_OUTPUT


def test_output_is_counted_as_it_comes_and_not_as_it_might() -> None:
    window = Window("output tokens", "output tokens", Whose.MODEL, "m", 0.5, 8000, 4000, NOW + 60, NOW)
    assert not window.is_low(0.02, Need(input=100_000, output=64_000))


def test_a_larger_reserve_is_watched_for_what_is_known_already() -> None:
    heard = Heard()
    heard.plan(OPUS, h5=0.9)
    assert not heard.is_low(OPUS, reserve=0.2)
    heard.limits.use_reserve(0.2)
    assert heard.is_low(OPUS, reserve=0.2)
    assert not heard.is_low(OPUS, reserve=0.02)


def test_q01_whose_rest_is_lost_first_is_told_by_the_longest_window() -> None:
    """Q01, ``soonest_reset``: the week, not the five hours."""
    heard = Heard()
    heard.plan(OPUS, reset=3600, h5=0.1)
    assert heard.limits.lost_at(OPUS) == NOW + 3600
    heard.plan(OPUS, reset=80_000, d7=0.1)
    assert heard.limits.lost_at(OPUS) == NOW + 80_000
    assert heard.limits.lost_at(OTHER) == math.inf


def test_the_forecast_follows_the_rate_of_the_last_minutes() -> None:
    heard = Heard()
    for minute in range(6):
        heard.plan(OPUS, reset=7200 - 60 * minute, h5=0.4 + 0.05 * minute)
        heard.clock.now += 60
    [window] = heard.limits.of(OPUS)
    # 25 % in 5 minutes; 35 % were left a minute ago.
    assert heard.limits.empty_in(OPUS, window) == pytest.approx(7 * 60 - 60)


@pytest.mark.parametrize(
    ("shares", "step", "reset"),
    [
        ((0.5,), 60, 7200),  # one reading tells no rate
        ((0.5, 0.5, 0.5), 60, 7200),  # nothing was spent
        ((0.5, 0.6), 10, 7200),  # too short a time
        ((0.1, 0.101, 0.102), 60, 7200),  # it lasts until the reset
        ((0.5, 0.7, 0.9), 60, FORECAST_FROM + 100),  # it begins anew in a moment
        ((0.9, 0.1, 0.1), 60, 7200),  # it has begun anew since
    ],
)
def test_there_is_no_forecast_where_nothing_tells_one(shares: tuple[float, ...], step: float, reset: float) -> None:
    heard = Heard()
    for share in shares:
        heard.plan(OPUS, reset=reset + NOW - heard.clock(), h5=share)
        heard.clock.now += step
    [window] = heard.limits.of(OPUS)
    assert heard.limits.empty_in(OPUS, window) is None


def test_what_is_kept_is_bounded() -> None:
    """Law 10: windows of a credential, credentials, samples."""
    heard = Heard()
    for number in range(MOST_OF_ONE + 20):
        heard.tokens(candidate("one", f"m{number}"), 50_000)
    assert len(list(heard.limits.stored())) == MOST_OF_ONE
    for minute in range(3 * SAMPLES):
        heard.plan(OPUS, h5=min(1.0, 0.001 * minute))
        heard.clock.now += SAMPLE_EVERY
    [kept] = heard.limits._windows["plan"].values()
    assert len(kept.samples) == SAMPLES
    for number in range(MOST_CREDENTIALS + 5):
        heard.limits.hear(candidate(f"c{number}"), [("x-ratelimit-remaining-requests", "0")], 0.0)
    assert len(heard.limits._windows) == MOST_CREDENTIALS
    assert len(heard.limits.watched) <= MOST_CREDENTIALS


def test_small_changes_are_no_news() -> None:
    """The state file is not written, and the page not drawn, for each reply."""
    heard = Heard()
    heard.plan(OPUS, h5=0.5)
    before = heard.limits.version
    heard.plan(OPUS, h5=0.502)
    assert heard.limits.version == before
    heard.plan(OPUS, h5=0.506)
    assert heard.limits.version > before


def test_another_account_behind_a_name_has_limits_of_its_own() -> None:
    heard = Heard()
    heard.plan(OPUS, h5=0.99)
    heard.plan(OTHER, h5=0.99)
    heard.limits.forget("plan")
    assert (heard.names(OPUS), heard.names(OTHER)) == ([], ["5h"])
    assert heard.limits.watched == {"other"}
    heard.limits.retain(lambda name: name == "plan")
    assert heard.names(OTHER) == []


def test_what_was_stored_comes_back_unless_it_is_over_or_older() -> None:
    heard = Heard()
    heard.plan(OPUS, h5=0.99, d7=0.5)
    stored = list(heard.limits.stored())
    later = Heard()
    later.clock.now += 60
    later.plan(OPUS, d7=0.6)
    later.limits.restore(stored)
    assert later.names(OPUS) == ["5h", "7d"]
    assert [window.left for window in later.limits.of(OPUS)] == pytest.approx([0.01, 0.4])
    assert later.is_low(OPUS)
    much_later = Heard()
    much_later.clock.now += 8000
    much_later.limits.restore(stored)
    assert much_later.names(OPUS) == []
    odd = Window("5h", "plan", Whose.CREDENTIAL, "", 0.0, None, None, NOW + 400 * 86400, NOW)
    heard.limits.restore([Stored("odd", odd)])
    assert heard.names(candidate("odd")) == []


def test_law8_a_limit_that_is_named_after_a_secret_is_kept_masked() -> None:
    """Law 8: an upstream names its limits as it likes."""
    heard, secret = Heard(), "sk-plan-0123456789"
    headers: Mapping[str, str] = {
        "x-codex-a-limit-name": f"{secret}-opus",
        "x-codex-a-primary-used-percent": "99",
        "x-codex-a-primary-window-minutes": "300",
        f"x-codex-{secret.replace('-', '')}-primary-used-percent": "99",
        f"x-quota-snapshot-{secret}": "rem=1.5",
        f"x-quota-snapshot-{secret.replace('-', '')}": "rem=1.5",
    }
    heard.limits.hear(
        OPUS,
        headers.items(),
        0.0,
        lambda text: text.replace(secret, "[plan]").replace(secret.replace("-", ""), "[plan]"),
    )
    kept = list(heard.limits.stored())
    assert kept
    assert "0123456789" not in repr(kept)


# -- one window ------------------------------------------------------------------------------------------------------


def kept(
    name: str = "w", left: float | None = 0.5, *, reset: float = NOW + 3600, read: float = NOW, length: float = 0.0
) -> Window:
    return Window(name, "plan", Whose.CREDENTIAL, "", left, None, None, reset, read, length)


def with_windows(*windows: Window, at: float = NOW) -> Heard:
    """A clock, and these windows of one credential."""
    heard = Heard()
    heard.clock.now = at
    heard.limits.restore(Stored("plan", each) for each in windows)
    assert len(list(heard.limits.stored())) == len(windows)
    return heard


@pytest.mark.parametrize(
    ("window", "reserve", "need", "low"),
    [
        (kept(left=0.02), 0.02, NO_NEED, False),
        (kept(left=0.019), 0.02, NO_NEED, True),
        (kept(left=0.0), 0.0, NO_NEED, False),
        (kept(left=None), 0.5, NO_NEED, False),
    ],
)
def test_q01_less_than_the_reserve_is_little(window: Window, reserve: float, need: Need, low: bool) -> None:
    assert window.is_low(reserve, need) is low


@pytest.mark.parametrize(
    ("of", "remaining", "low"),
    [
        ("tokens", 100.0, False),
        ("tokens", 99.0, True),
        ("input tokens", 60.0, False),
        ("input tokens", 59.0, True),
        ("output tokens", 1.0, False),
        ("requests", 1.0, False),
        ("tokens", None, False),
    ],
)
def test_q01_what_a_request_takes_of_a_window(of: str, remaining: float | None, low: bool) -> None:
    """Q01: of all tokens the larger one of prompt and stated maximum; requests are counted by their share."""
    window = Window("w", of, Whose.CREDENTIAL, "", 0.5, None, remaining, NOW + 60, NOW)
    assert window.is_low(0.02, Need(60, 100)) is low


def test_windows_of_unknown_length_are_as_long_as_they_last() -> None:
    """From when they were read; of the same length the name decides."""
    heard = with_windows(
        kept("d", length=7200), kept("b", reset=NOW + 3600), kept("c", reset=math.inf), kept("a", length=3600)
    )
    assert heard.names(OPUS) == ["c", "a", "b", "d"]


def test_q01_of_the_longest_windows_the_first_reset_counts() -> None:
    """Q01, ``soonest_reset``: a window of which no reset is known loses nothing."""
    for windows, at in (
        ([kept("a", length=100, reset=NOW + 90), kept("b", length=100, reset=NOW + 50)], 50),
        ([kept("a", length=100, reset=NOW + 50), kept("b", length=100, reset=NOW + 90)], 50),
        ([kept("a", length=100, reset=NOW + 50), kept("b", length=200, reset=NOW + 190)], 190),
        ([kept("b", length=200, reset=NOW + 190), kept("a", length=100, reset=NOW + 50)], 190),
        ([kept("a", length=100, reset=NOW + 50), kept("b", reset=NOW + 101)], 101),
        ([kept("a", length=100, reset=NOW + 50), kept("b", reset=NOW + 99)], 50),
        ([kept("a", length=100, reset=math.inf)], math.inf),
        ([kept("a", length=100, reset=NOW + 50), kept("b", length=200, reset=math.inf)], 50),
    ):
        assert with_windows(*windows).limits.lost_at(OPUS) == NOW + at


def test_windows_end_at_their_reset_or_after_a_minute() -> None:
    assert kept(reset=NOW + 5).ends == NOW + 5
    assert kept(reset=math.inf).ends == NOW + UNDATED
    heard = with_windows(kept("a", reset=NOW + 60), kept("b", reset=math.inf, read=NOW - 10))
    heard.clock.now += 50
    assert [each.window.name for each in heard.limits.stored()] == ["a"]
    assert heard.names(OPUS) == ["a"]
    heard.clock.now += 10
    assert list(heard.limits.stored()) == [] and heard.names(OPUS) == []


@pytest.mark.parametrize(("days", "believed"), [(40, True), (41, False)])
def test_a_reset_that_is_too_far_away_is_not_believed(days: int, believed: bool) -> None:
    """Neither from a file nor from a header."""
    heard = Heard()
    heard.limits.restore([Stored("plan", kept(reset=NOW + days * 86400))])
    assert bool(heard.names(OPUS)) is believed
    told = Heard()
    told.plan(OPUS, reset=days * 86400, h5=0.5)
    [window] = told.limits.of(OPUS)
    assert (window.reset < math.inf) is believed


def test_wall_time_in_headers_is_read_by_the_clock() -> None:
    """H06: a reset as a date, while the wall clock is ahead of the clock of durations."""
    heard = Heard()
    headers = {
        "anthropic-ratelimit-unified-5h-utilization": "0.5",
        "anthropic-ratelimit-unified-5h-reset": str(int(NOW + 1000 + 60)),
    }
    heard.limits.hear(OPUS, headers.items(), 1000.0)
    [window] = heard.limits.of(OPUS)
    assert (window.reset, window.read) == (NOW + 60, NOW)


def test_what_is_left_of_forgotten_credentials_is_not_watched() -> None:
    """Law 10: the one that was heard of least recently goes, and with it everything about it."""
    heard = with_windows(kept(left=0.01))
    version = heard.limits.version
    heard.limits.forget("other")
    assert heard.limits.version == version
    heard.limits.forget("plan")
    assert heard.limits.version > version
    assert not heard.limits.watched
    heard.limits.use_reserve(0.9)
    heard.plan(OPUS, h5=0.5)
    assert heard.limits.watched == {"plan"}
    heard.limits.use_reserve(0.1)
    assert not heard.limits.watched
    heard.plan(OPUS, h5=0.95)
    assert heard.limits.watched == {"plan"}
    heard.plan(OPUS, h5=0.2)
    assert not heard.limits.watched


def test_a_credential_that_is_heard_of_again_is_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10."""
    monkeypatch.setattr(module, "MOST_CREDENTIALS", 2)
    heard = Heard()
    for name in ("a", "b", "a", "c"):
        heard.plan(candidate(name), h5=0.5)
    assert [heard.names(candidate(name)) for name in "abc"] == [["5h"], [], ["5h"]]


def test_of_one_credential_the_oldest_window_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10."""
    monkeypatch.setattr(module, "MOST_OF_ONE", 2)
    heard = with_windows(kept("a"), kept("b"))
    heard.limits.restore([Stored("plan", kept("c"))])
    assert heard.names(OPUS) == ["b", "c"]


# -- the forecast ----------------------------------------------------------------------------------------------------


def spent(*readings: tuple[float, float], reset: float = 7200.0) -> tuple[Heard, Window]:
    """A window that was read after so many seconds, with so much of it used."""
    heard = Heard()
    for after, share in readings:
        heard.clock.now = NOW + after
        heard.plan(OPUS, reset=reset - after, h5=share)
    [window] = heard.limits.of(OPUS)
    return heard, window


@pytest.mark.parametrize(
    ("readings", "wait", "reset", "seconds"),
    [
        (((0, 0.5), (60, 0.6)), 0, 7200, 240.0),
        (((0, 0.5), (59, 0.6)), 0, 7200, None),
        (((0, 0.5), (60, 0.6)), 40, 7200, 200.0),
        (((0, 0.5), (60, 0.6)), 300, 7200, 0.0),
        (((0, 0.5), (60, 0.6)), 0, 360, 240.0),
        (((0, 0.5), (60, 0.6)), 0, 359, None),
        (((0, 0.0), (60, 0.05)), 0, 1200, None),
        (((0, 0.0), (60, 0.05)), 0, 1201, 1140.0),
        (((0, 0.5), (20, 0.5), (80, 0.6)), 0, 7200, 320.0),
        (((0, 0.9), (30, 0.1), (90, 0.2)), 0, 7200, 480.0),
        (((0, 0.5), (19, 0.55), (60, 0.6)), 0, 7200, 240.0),
        (((0, 0.5), (SAMPLE_EVERY * SAMPLES, 0.6)), 0, 7200, 3680.0),
        (((0, 0.5), (SAMPLE_EVERY * SAMPLES + 1, 0.6)), 0, 7200, None),
        (((0, 0.1), (SAMPLE_EVERY, 0.5), (SAMPLE_EVERY * (SAMPLES + 1), 0.6)), 0, 7200, 3680.0),
    ],
)
def test_the_forecast_goes_on_as_it_has_gone(
    readings: tuple[tuple[float, float], ...], wait: float, reset: float, seconds: float | None
) -> None:
    """From the oldest reading since the window began; none where the reset comes first or in a moment."""
    heard, window = spent(*readings, reset=reset)
    heard.clock.now += wait
    found = heard.limits.empty_in(OPUS, window)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1.5 if seconds else 0))


def test_the_forecast_looks_back_a_quarter_of_an_hour() -> None:
    """What was spent before says nothing about now."""
    heard, window = spent((0, 0.1), (SAMPLE_EVERY * SAMPLES - 100, 0.5), (SAMPLE_EVERY * SAMPLES + 60, 0.6))
    assert heard.limits.empty_in(OPUS, window) == pytest.approx(640, abs=1.5)
    heard.clock.now += 2 * SAMPLE_EVERY * SAMPLES
    assert heard.limits.empty_in(OPUS, window) is None
    assert heard.limits.empty_in(OTHER, window) is None
    undated = kept(reset=math.inf)
    assert with_windows(undated).limits.empty_in(OPUS, undated) is None
    assert with_windows(kept(left=None)).limits.empty_in(OPUS, kept(left=None)) is None


def test_a_busy_account_has_a_forecast_as_well() -> None:
    """A share is noted every twenty seconds, however many replies come."""
    heard, window = spent(*((float(second), 0.2 + second / 1000) for second in range(121)))
    assert heard.limits.empty_in(OPUS, window) == pytest.approx(680, abs=5)


def test_a_window_that_comes_is_news_whatever_is_left_of_it() -> None:
    """It is written, and shown."""
    limits = Limits(Clock())
    versions = [limits.version]
    for window in (kept("a", left=None), kept("b", left=0.5)):
        limits.restore([Stored("plan", window)])
        versions.append(limits.version)
    assert sorted(set(versions)) == versions


@pytest.mark.parametrize(("remaining", "watched"), [(500_000, True), (1_048_575, True), (1_048_576, False)])
def test_q01_tokens_that_a_few_large_requests_could_use_up_are_watched(remaining: int, watched: bool) -> None:
    """Q01: every other request is spared the look."""
    heard = Heard()
    heard.tokens(OPUS, remaining, limit=10_000_000)
    assert bool(heard.limits.watched) is watched


def test_q01_one_window_that_is_too_small_is_enough() -> None:
    """Q01: whatever the others have."""
    heard = Heard()
    heard.tokens(OPUS, 30_000)
    heard.plan(OPUS, h5=0.1)
    assert heard.is_low(OPUS, need=Need(input=40_000))


@pytest.mark.parametrize(
    ("of", "remaining", "low"),
    [("requests", 1.0, False), ("requests", 0.9, True), ("tokens", 1.0, False), ("plan", 0.5, False)],
)
def test_q01_where_no_share_is_known_the_last_one_counts(of: str, remaining: float, low: bool) -> None:
    """Q01: of requests and tokens; a plan counts in units of its own."""
    window = Window("w", of, Whose.CREDENTIAL, "", None, None, remaining, NOW + 60, NOW)
    assert window.is_low(0.02, NO_NEED) is low
