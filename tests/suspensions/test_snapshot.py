"""What a state file says: a round trip, who comes back and who does not, and any other text."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.decisions import NOW, OPENAI, OTHER, Clock, Source, candidate, credential, upstream
from understudy.codec.steady_clock import SteadyClock, ahead_of
from understudy.limits import Stored, Whose, Window
from understudy.model.pool import Credential, Pool
from understudy.model.suspension import Key, Suspension, key_of
from understudy.model.verdict import Label, Scope
from understudy.suspensions.cache import Suspensions
from understudy.suspensions.ladder import Rung
from understudy.suspensions.learned import Cause, Lesson, Signature
from understudy.suspensions.snapshot import LONGEST, MOST_TEXT, VERSION, StateError, decode, encode, restore, urls_of

A = candidate("a", "gpt-5")
CANDIDATE, CREDENTIAL, UPSTREAM = (key_of(A, scope) for scope in Scope)


def pool(*credentials: Credential) -> Pool:
    """A pool of these credentials, and their upstreams."""
    known = credentials or (credential("a"), credential("b"), credential("x", OTHER))
    return Pool(
        upstreams={each.upstream.name: each.upstream for each in known},
        credentials={each.name: each for each in known},
    )


def suspension(key: Key = CANDIDATE, seconds: float = 600.0, label: Label = Label.MODEL_UNSUPPORTED) -> Suspension:
    """A suspension since now."""
    return Suspension(key, NOW, NOW + seconds, label, "test/rule", "said no", "", "a gpt-5", 0, 1)


def memory() -> Suspensions:
    """An empty memory."""
    return Suspensions(Clock())


def brought_back(*known: Suspension, into: Pool | None = None, before: Pool | None = None) -> Suspensions:
    """These suspensions after a restart."""
    text = encode(known, (), urls_of(before or pool()), NOW)
    after = memory()
    restore(decode(text), into or pool(), after)
    return after


def test_all_of_a_suspension_comes_back() -> None:
    """O03: key, times and evidence are as they were, in every scope."""
    known = [
        suspension(CANDIDATE, 10),
        replace(suspension(CREDENTIAL, 20, Label.QUOTA_EXHAUSTED), hint="retry-after", step=0),
        suspension(UPSTREAM, 30, Label.OVERLOADED),
    ]
    assert list(brought_back(*known)) == known


def test_a_model_may_be_called_anything() -> None:
    """An alias comes from the tool: lone surrogates, line breaks and quotes are part of the key."""
    key = Key(Scope.CANDIDATE, "a", 'm"\n\ud800\u2028é')
    assert brought_back(suspension(key)).get(key) is not None


def test_what_has_expired_stays_away() -> None:
    """O03: only what still runs."""
    after = memory()
    text = encode([suspension(CANDIDATE, 10), suspension(CREDENTIAL, 5)], (), urls_of(pool()), NOW)
    after.clock.now += 7  # type: ignore[attr-defined]
    assert restore(decode(text), pool(), after) == 1
    assert [each.key for each in after] == [CANDIDATE]


def test_a_time_beyond_all_measure_is_not_believed() -> None:
    """A clock that was wrong when the file was written must not suspend for ever."""
    assert len(brought_back(suspension(CANDIDATE, LONGEST + 1), suspension(CREDENTIAL, LONGEST))) == 1


@pytest.mark.parametrize(
    ("key", "into"),
    [
        (CANDIDATE, pool(credential("b"))),
        (CREDENTIAL, pool(credential("b"))),
        (UPSTREAM, pool(credential("x", OTHER))),
        (CANDIDATE, pool(credential("a", upstream("openai", host="elsewhere.example")))),
        (CREDENTIAL, pool(credential("a", OTHER))),
        (UPSTREAM, pool(credential("a", upstream("openai", host="elsewhere.example")))),
    ],
)
def test_what_the_pool_means_otherwise_by_now_stays_away(key: Key, into: Pool) -> None:
    """O03: a name that is gone, or that stands for another URL."""
    assert list(brought_back(suspension(key), into=into)) == []
    assert len(brought_back(suspension(key))) == 1


def test_what_no_pool_names_is_not_written() -> None:
    """A tool's own credential has a name that no other proxy knows."""
    text = encode([suspension(Key(Scope.CREDENTIAL, "own 1a2b3c"))], (), urls_of(pool()), NOW)
    assert decode(text).suspensions == ()


def test_a_rejected_credential_is_tried_anew() -> None:
    """A restart is how a secret in the environment is changed; its ladder would be a wrong memory, too."""
    rung = (CREDENTIAL, Label.CREDENTIAL_REJECTED, Rung(1, 3, NOW + 60))
    text = encode([suspension(CREDENTIAL, 60, Label.CREDENTIAL_REJECTED)], [rung], urls_of(pool()), NOW)
    assert decode(text) == decode(encode((), (), urls_of(pool()), NOW))


def test_the_ladder_goes_on_where_it_stood() -> None:
    """O03: the next failure climbs; one inside the window does not count, as before."""
    rung = (CANDIDATE, Label.OVERLOADED, Rung(2, 99, NOW + 20))
    text = encode([suspension(CANDIDATE, 20, Label.OVERLOADED)], [rung], urls_of(pool()), NOW)
    after = memory()
    restore(decode(text), pool(), after)
    assert after.ladders.next_step(CANDIDATE, Label.OVERLOADED, after.ticket(), NOW + 10) is None
    assert after.ladders.next_step(CANDIDATE, Label.OVERLOADED, after.ticket(), NOW + 20) == 3


def test_a_window_without_its_suspension_swallows_nothing() -> None:
    """A rung whose suspension did not come back: the next failure counts at once."""
    rung = (CANDIDATE, Label.OVERLOADED, Rung(2, 99, NOW + 20))
    after = memory()
    restore(decode(encode((), [rung], urls_of(pool()), NOW)), pool(), after)
    assert after.ladders.next_step(CANDIDATE, Label.OVERLOADED, after.ticket(), NOW) == 3


def test_what_is_known_better_stays() -> None:
    """A file that is read while the proxy runs only lengthens, and no ladder falls back."""
    after = memory()
    after.suspend(suspension(CANDIDATE, 100, Label.OVERLOADED))
    after.ladders.climb(CANDIDATE, Label.OVERLOADED, Rung(4, 1, NOW + 100))
    rung = (CANDIDATE, Label.OVERLOADED, Rung(2, 99, NOW + 20))
    restore(decode(encode([suspension(CANDIDATE, 20)], [rung], urls_of(pool()), NOW)), pool(), after)
    assert [each.until for each in after] == [NOW + 100]
    assert after.ladders.next_step(CANDIDATE, Label.OVERLOADED, after.ticket(), NOW + 100) == 5


def test_no_secret_is_written() -> None:
    """R06: neither the pool's nor what a hint or evidence was masked from."""
    text = encode([suspension()], (), urls_of(pool()), NOW).decode()
    assert all(each.secret.reveal() not in text for each in pool().credentials.values())
    assert OPENAI.url in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a state file"),
        (b"{}", "not a state file"),
        (b'{"version": 2}', "of version 2, not 1"),
        (b'{"version": 1}', "an entry is damaged"),
        (b'{"version": 1, "suspensions": 3, "ladders": []}', "an entry is damaged"),
    ],
)
def test_a_text_that_is_none(text: bytes, reason: str) -> None:
    """A damaged or foreign file is told apart."""
    with pytest.raises(StateError, match=reason):
        decode(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scope", "model"),
        ("label", "so_so"),
        ("until", "soon"),
        ("until", float("nan")),
        ("until", float("inf")),
        ("since", True),
        ("step", -1),
        ("step", 1.5),
        ("name", None),
        ("url", 7),
        ("evidence", ["x"]),
    ],
)
def test_a_damaged_entry(key: str, value: object) -> None:
    """One wrong value, and the file is not believed."""
    document = json.loads(encode([suspension()], (), urls_of(pool()), NOW))
    decode(json.dumps(document).encode())
    document["suspensions"][0][key] = value
    with pytest.raises(StateError, match="an entry is damaged"):
        decode(json.dumps(document).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
ENTRY = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("scope", "name", "model", "url", "since", "until", "label", "rule", "step"), JSON)
)


@given(st.binary(max_size=50) | st.builds(
    lambda one, two: json.dumps({"version": VERSION, "suspensions": one, "ladders": two}).encode(),
    st.lists(ENTRY, max_size=2) | JSON,
    st.lists(ENTRY, max_size=2) | JSON,
))  # fmt: skip
def test_any_text_is_a_state_or_a_state_error(text: bytes) -> None:
    """Whatever is in the file, nothing else is raised."""
    try:
        decoded = decode(text)
    except StateError:
        return
    restore(decoded, pool(), memory())


# -- what was learnt ---------------------------------------------------------------------------------------------


def lesson(upstream: str = "openai", seconds: float = 600.0) -> Lesson:
    """A lesson that holds for so long."""
    signature = Signature("0123456789ab", upstream, "openai", 400, "odd_error", "api_error", "flux … of {model} is off")
    return Lesson(
        signature, Cause.REQUEST, Label.UNKNOWN, "builtin/unknown", "a", "b", NOW, NOW + seconds, 3, NOW + 5, 2
    )


def test_j06_what_was_learnt_comes_back() -> None:
    """J06: all of it, unless its time is over or its upstream is another one by now."""
    text = encode([], (), urls_of(pool()), NOW, [lesson()])
    after = memory()
    restore(decode(text), pool(), after)
    assert list(after.learned) == [lesson()]
    elsewhere = memory()
    restore(decode(text), pool(credential("a", upstream("openai", host="elsewhere.example"))), elsewhere)
    late = memory()
    late.clock.now += 600  # type: ignore[attr-defined]
    restore(decode(text), pool(), late)
    assert list(elsewhere.learned) == list(late.learned) == []
    assert b"learned" in encode([], (), urls_of(pool()), NOW)
    assert json.loads(encode([], (), urls_of(pool()), NOW, [lesson("gone")]))["learned"] == []


def test_a_file_of_an_earlier_release_has_learnt_nothing() -> None:
    document = json.loads(encode([suspension()], (), urls_of(pool()), NOW))
    del document["learned"]
    assert decode(json.dumps(document).encode()).learned == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", ""),
        ("id", "xyz"),
        ("id", 5),
        ("id", "0123456789abc"),
        ("id", "../../etc/pass"),
        ("cause", "nobody"),
        ("cause", 1),
        ("until", "soon"),
        ("until", True),
        ("status", -1),
        ("status", "400"),
        ("status", 1e9),
        ("words", None),
        ("words", []),
        ("label", "odd"),
    ],
)
def test_a_damaged_lesson_is_no_state(name: str, value: object) -> None:
    """H09: a message, never a traceback."""
    document = json.loads(encode([], (), urls_of(pool()), NOW, [lesson()]))
    document["learned"][0][name] = value
    with pytest.raises(StateError):
        decode(json.dumps(document).encode())


def test_what_is_in_doubt_is_not_kept() -> None:
    """J04: it is over in half a minute, and no restart should find it."""
    assert len(brought_back(replace(suspension(), doubt=7))) == 0


def test_h12_nothing_of_a_drill_comes_back() -> None:
    """H12: neither what it has suspended nor the steps of its ladders is written."""
    drilled = CANDIDATE._replace(drill=True)
    rung = Rung(2, 5, NOW + 60)
    ladders = [(drilled, Label.MODEL_UNSUPPORTED, rung), (CANDIDATE, Label.MODEL_UNSUPPORTED, rung)]
    text = encode([suspension(drilled), suspension()], ladders, urls_of(pool()), NOW)
    told = json.loads(text)
    assert (len(told["suspensions"]), len(told["ladders"])) == (1, 1)
    after = memory()
    restore(decode(text), pool(), after)
    assert after.known() == [CANDIDATE]


def test_q01_windows_come_back_with_their_account_and_with_no_other() -> None:
    """Q01: what replies said of limits outlives the proxy, until it begins anew; another upstream has its own."""
    before = memory()
    names = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")
    before.limits.hear(A, list(zip(names, ("1000", "5", "6m0s"), strict=True)), 0.0)
    text = encode((), (), urls_of(pool()), NOW, limits=before.limits.stored())
    after = memory()
    restore(decode(text), pool(), after)
    assert after.limits.of(A) == before.limits.of(A)
    assert after.limits.watched == {"a"}
    elsewhere = memory()
    restore(decode(text), pool(credential("a", OTHER)), elsewhere)
    assert elsewhere.limits.of(A) == []
    # A file of an earlier release has none; a damaged entry is a damaged file.
    document = json.loads(text)
    assert decode(json.dumps({**document, "limits": []}).encode()).limits == ()
    document["limits"][0]["left"] = "much"
    with pytest.raises(StateError):
        decode(json.dumps(document).encode())


# -- times, bounds and texts ------------------------------------------------------------------------------------------


def set_clock(ahead: float) -> SteadyClock:
    """A clock of a machine whose wall clock was set since; both begin at ``NOW``."""
    walls = iter([NOW])
    clock = SteadyClock(lambda: next(walls, NOW + ahead), lambda: 0.0)
    assert (clock(), ahead_of(clock)) == (NOW, ahead)
    return clock


WINDOW = Window("tokens", "tokens", Whose.CREDENTIAL, "a", 0.25, 1000.0, 250.0, NOW + 60, NOW, 3600.0)


def test_h06_a_file_is_in_wall_time_and_is_read_by_another_clock() -> None:
    """H06: every time in it, so that a restart after the wall clock was set finds the same moments."""
    rung = (CANDIDATE, Label.OVERLOADED, Rung(2, 99, NOW + 20))
    undated = replace(WINDOW, name="undated", reset=math.inf)
    text = encode(
        [suspension(CANDIDATE, 600)],
        [rung],
        urls_of(pool()),
        NOW,
        [lesson()],
        1000.0,
        [Stored("a", WINDOW), Stored("a", undated)],
    )
    told = json.loads(text)
    assert told["written"] == NOW + 1000
    assert [told["suspensions"][0][name] for name in ("since", "until")] == [NOW + 1000, NOW + 1600]
    assert told["ladders"][0]["until"] == NOW + 1020
    assert [told["learned"][0][name] for name in ("since", "until", "last")] == [NOW + 1000, NOW + 1600, NOW + 1005]
    assert [(each["reset"], each["read"]) for each in told["limits"]] == [
        (NOW + 1060, NOW + 1000),
        (None, NOW + 1000),
    ]
    after = Suspensions(set_clock(1000.0))
    assert restore(decode(text), pool(), after) == 1
    assert list(after) == [suspension(CANDIDATE, 600)]
    assert list(after.learned) == [lesson()]
    assert after.ladders.standing(CANDIDATE) == {Label.OVERLOADED: Rung(2, 0, NOW + 20)}
    kept = {each.window.name: each.window for each in after.limits.stored()}
    assert kept == {"tokens": WINDOW, "undated": undated}


def test_a_rung_without_its_suspension_lasts_until_now_at_most() -> None:
    """In the time of this clock."""
    rung = (CANDIDATE, Label.OVERLOADED, Rung(2, 99, NOW + 20))
    text = encode((), [rung], urls_of(pool()), NOW, (), 1000.0)
    after = Suspensions(set_clock(1000.0))
    restore(decode(text), pool(), after)
    assert after.ladders.standing(CANDIDATE) == {Label.OVERLOADED: Rung(2, 0, NOW)}
    early = (CANDIDATE, Label.OVERLOADED, Rung(2, 99, NOW - 20))
    after = Suspensions(set_clock(1000.0))
    restore(decode(encode((), [early], urls_of(pool()), NOW, (), 1000.0)), pool(), after)
    assert after.ladders.standing(CANDIDATE) == {Label.OVERLOADED: Rung(2, 0, NOW - 20)}


@pytest.mark.parametrize(("step", "good"), [(0, True), (9_999, True), (10_000, False), (True, False), (2.0, False)])
def test_a_step_is_a_whole_number_of_a_ladder(step: object, good: bool) -> None:
    document = json.loads(encode([suspension()], (), urls_of(pool()), NOW))
    document["suspensions"][0]["step"] = step
    if good:
        assert decode(json.dumps(document).encode()).suspensions[0][0].step == step
    else:
        with pytest.raises(StateError, match="no step"):
            decode(json.dumps(document).encode())


@pytest.mark.parametrize(("left", "read"), [(None, None), (0.5, 0.5), (-1, 0.0), (7, 1.0), (0, 0.0), (1, 1.0)])
def test_what_is_left_of_a_window_is_a_share(left: object, read: float | None) -> None:
    """Q01: whatever the file says; a window without a share has none."""
    text = encode((), (), urls_of(pool()), NOW, limits=[Stored("a", WINDOW)])
    document = json.loads(text)
    document["limits"][0]["left"] = left
    assert decode(json.dumps(document).encode()).limits[0][0].window.left == read


def test_a_text_that_is_read_back_is_one_line_and_short() -> None:
    """Law 8: it is shown and logged, whoever has written the file."""
    document = json.loads(encode([suspension()], (), urls_of(pool()), NOW))
    for evidence in ("two\nlines", "x" * 5000, "red \x1b[31m"):
        document["suspensions"][0]["evidence"] = evidence
        read = decode(json.dumps(document).encode()).suspensions[0][0].evidence
        assert read.isprintable() and len(read) <= MOST_TEXT
        assert read.startswith(evidence[:3])
    document["suspensions"][0]["evidence"] = "said “no”"
    assert decode(json.dumps(document).encode()).suspensions[0][0].evidence == "said “no”"


@pytest.mark.parametrize("member", ["version", "until"])
def test_h09_a_message_about_a_damaged_file_is_short(member: str) -> None:
    """H09: of whatever stands in it only the beginning is told."""
    document = json.loads(encode([suspension()], (), urls_of(pool()), NOW))
    (document if member == "version" else document["suspensions"][0])[member] = "x" * 5000
    if member == "until":
        document["suspensions"][0]["label"] = "x" * 5000
        document["suspensions"][0][member] = NOW
    with pytest.raises(StateError) as told:
        decode(json.dumps(document).encode())
    message = str(told.value)
    if member == "version":
        assert message == f"this is of version {'x' * 20}, not 1"
    else:
        assert message.startswith("an entry is damaged (ValueError") and "xxx" in message
        assert len(message) == len("an entry is damaged ()") + 100


def test_a_tools_own_credential_is_in_no_file() -> None:
    """O03: another process would not know whose it is."""

    class Own(Source):
        is_client = True

    own = Credential("own", OPENAI, Own())
    known = pool(own, credential("a"))
    assert (False, "own") not in urls_of(known) and (True, "openai") in urls_of(known)
    windows = [Stored("own", WINDOW), Stored("a", WINDOW), Stored("gone", WINDOW)]
    told = json.loads(encode([suspension(Key(Scope.CREDENTIAL, "own"))], (), urls_of(known), NOW, limits=windows))
    assert told["suspensions"] == []
    assert [each["credential"] for each in told["limits"]] == ["a"]


def test_the_order_of_lessons_outlives_the_proxy() -> None:
    """J06: the one that was learnt longest ago still goes first."""
    lessons = [replace(lesson(), signature=replace(lesson().signature, id=f"{number:012x}")) for number in range(3)]
    before, after = memory(), memory()
    before.learned.restore(lessons)
    restore(decode(encode((), (), urls_of(pool()), NOW, before.learned)), pool(), after)
    assert list(after.learned) == list(before.learned) == lessons[::-1]
