"""What a person means by the words of a command."""

from __future__ import annotations

import pytest

from tests.support.decisions import OTHER, credential
from understudy.control.target import ControlError, take_seconds, take_target
from understudy.model.pool import Choice, Pool, Route
from understudy.model.suspension import Key
from understudy.model.verdict import Scope

WORK, HOME, ROUTER = credential("work"), credential("home"), credential("router", OTHER)
POOL = Pool(
    upstreams={each.upstream.name: each.upstream for each in (WORK, ROUTER)},
    credentials={each.name: each for each in (WORK, HOME, ROUTER)},
    routes={
        "gpt-5": Route("gpt-5", (Choice(WORK), Choice(ROUTER, "openai/gpt-5"))),
        "mini-*": Route("mini-*", (Choice(HOME),)),
    },
)
GPT5 = Key(Scope.CANDIDATE, "work", "gpt-5")
FORGOTTEN = Key(Scope.CANDIDATE, "old", "model \n x")


@pytest.mark.parametrize(
    ("words", "key", "left"),
    [
        ("work gpt-5", GPT5, 0),
        ("work/gpt-5", GPT5, 0),
        ("candidate work gpt-5", GPT5, 0),
        ("candidate work/gpt-5 60", GPT5, 1),
        ("work gpt-5 60", GPT5, 1),
        ("work/gpt-5 60", GPT5, 1),
        ("router openai/gpt-5", Key(Scope.CANDIDATE, "router", "openai/gpt-5"), 0),
        ("router/openai/gpt-5 1h", Key(Scope.CANDIDATE, "router", "openai/gpt-5"), 1),
        ("home mini-4", Key(Scope.CANDIDATE, "home", "mini-4"), 0),
        ("credential work", Key(Scope.CREDENTIAL, "work"), 0),
        ("credential work 10m", Key(Scope.CREDENTIAL, "work"), 1),
        ("upstream other", Key(Scope.UPSTREAM, "other"), 0),
        ("upstream openai 5 6", Key(Scope.UPSTREAM, "openai"), 2),
    ],
)
def test_what_is_meant(words: str, key: Key, left: int) -> None:
    """O04: candidates in three spellings, credentials, upstreams; a time may follow."""
    found, rest = take_target(words.split(), POOL)
    assert (found, len(rest)) == (key, left)


def test_what_is_no_longer_in_the_pool_can_be_named_while_it_is_suspended() -> None:
    """O04: also by the text in which it was shown."""
    assert take_target(["old", r"model \n x"], POOL, [FORGOTTEN]) == (FORGOTTEN, [])
    assert take_target(["credential", "old"], POOL, [FORGOTTEN])[0] == Key(Scope.CREDENTIAL, "old")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("", "a target is missing: write `CREDENTIAL MODEL`"),
        ("credential", "`credential` needs a name"),
        ("upstream", "`upstream` needs a name"),
        ("candidate", "`candidate` needs a name"),
        ("work", "`work` alone is no candidate: add its upstream model, or write `credential work`"),
        ("openai", "or write `upstream openai`"),
        ("what", "`what` alone is no candidate: add its upstream model, or write `CREDENTIAL MODEL`"),
        ("wrok gpt-5", "there is no credential `wrok`: did you mean `work`?"),
        ("credential hom", "did you mean `home`?"),
        ("upstream opnai", "there is no upstream `opnai`: did you mean `openai`?"),
        ("work gpt-6", "no route has a candidate `work gpt-6`: did you mean `gpt-5`?"),
        ("router gpt-5", "no route has a candidate `router gpt-5`: write one of openai/gpt-5"),
        ("work/", "no route has a candidate"),
        ("home maxi", "no route has a candidate `home maxi`: "),
    ],
)
def test_what_is_not_understood(words: str, answer: str) -> None:
    """O04: an error says what exists."""
    with pytest.raises(ControlError) as error:
        take_target(words.split(), POOL)
    assert answer in str(error.value)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [("", 7.0), ("60", 60.0), ("1.5", 1.5), ("90s", 90.0), ("10m", 600.0), ("2h", 7200.0), ("1d", 86400.0)],
)
def test_how_long(words: str, seconds: float) -> None:
    """Seconds, or a unit."""
    assert take_seconds(words.split(), 7.0) == seconds


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("soon", "`soon` is no time"),
        ("-5", "`-5` is no time"),
        ("nan", "`nan` is no time"),
        ("0", "not more than zero and at most a year"),
        ("366d", "not more than zero and at most a year"),
        ("1e9", "is no time"),
        ("5 6", "too many words (`5 6`)"),
    ],
)
def test_no_time(words: str, answer: str) -> None:
    """What is no time span is not guessed at."""
    with pytest.raises(ControlError) as error:
        take_seconds(words.split(), 7.0)
    assert answer in str(error.value)


def test_a_time_in_the_place_of_a_model_means_the_whole_credential() -> None:
    with pytest.raises(ControlError, match=r"name its upstream model, or write `credential work 5m`$"):
        take_target(["work", "5m"], POOL)
    with pytest.raises(ControlError, match=r"or write `upstream openai 1h`$"):
        take_target(["openai", "1h"], POOL)
