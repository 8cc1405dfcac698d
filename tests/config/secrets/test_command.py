"""Secrets that a program prints: run once however many wait, renewed in time, and left alone after a failure."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import pickle
from collections.abc import Awaitable
from pathlib import Path

import pytest

from tests.support.decisions import Clock
from understudy.config.secrets.command import FIRST_PAUSE, LONGEST_PAUSE, MARGIN, SHORTEST_LIFE, CommandSecret
from understudy.model.secret import SecretError

SECRET = "sk-from-a-command-0123456789"


class Helper:
    """A program that prints what is in a file, and notes each of its runs in another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.runs_file = folder / "runs"
        self.runs_file.touch()
        self.prints(SECRET)

    def prints(self, output: object) -> None:
        """From now on it prints this, a value as JSON."""
        self.script(f"cat <<'END'\n{output if isinstance(output, str) else json.dumps(output)}\nEND\n")

    def script(self, script: str) -> None:
        """From now on it does this."""
        (self.folder / "helper").write_text(f"echo x >> runs\n{script}")

    @property
    def runs(self) -> int:
        """How often it was run."""
        return len(self.runs_file.read_text().split())

    def source(self, **options: float) -> CommandSecret:
        """A source that runs it."""
        return CommandSecret(["sh", "helper"], self.folder, clock=self.clock, **options)


@pytest.fixture
def helper(tmp_path: Path) -> Helper:
    """A program that prints a secret."""
    return Helper(tmp_path)


def do(*waiting: Awaitable[None]) -> None:
    """Wait for all of these at once."""

    async def together() -> None:
        await asyncio.gather(*waiting)

    asyncio.run(together())


def fetched(source: CommandSecret, rejected: str = "") -> str:
    """The secret, as a request gets it."""
    if not source.at_hand(rejected):
        do(source.fetch(rejected))
    return source.reveal()


def test_it_is_run_when_it_is_needed_and_kept(helper: Helper) -> None:
    source = helper.source()
    assert helper.runs == 0, "not when the pool is loaded"
    with pytest.raises(SecretError, match="was not run"):
        source.reveal()
    assert [fetched(source) for _ in range(3)] == [SECRET] * 3
    helper.clock.now += 1e9
    assert fetched(source) == SECRET
    assert helper.runs == 1


def test_many_that_wait_share_one_run(helper: Helper) -> None:
    """L06: one refresh at a time however many requests wait, and one that gives up does not end it for the others."""
    os.mkfifo(helper.folder / "gate")
    helper.script(f"cat gate; echo {SECRET}")
    source = helper.source()

    async def many() -> None:
        waiting = [asyncio.ensure_future(source.fetch()) for _ in range(50)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.to_thread((helper.folder / "gate").write_text, "")
        assert (
            sum(
                isinstance(end, asyncio.CancelledError)
                for end in await asyncio.gather(*waiting, return_exceptions=True)
            )
            == 1
        )

    asyncio.run(many())
    assert source.reveal() == SECRET
    assert helper.runs == 1


def test_it_is_renewed_shortly_before_it_expires(helper: Helper) -> None:
    source = helper.source()
    helper.prints({"token": SECRET, "expires_in": 3600})
    fetched(source)
    helper.clock.now += 3600 - MARGIN - 1
    assert source.at_hand()
    helper.clock.now += 1
    assert not source.at_hand()
    helper.prints({"token": "sk-second-0123456789", "expires_in": 100})
    assert fetched(source) == "sk-second-0123456789"
    helper.clock.now += 89
    assert source.at_hand(), "a short life has a short margin"
    helper.clock.now += 1
    assert not source.at_hand()
    assert helper.runs == 2


def test_an_expiry_in_the_past_does_not_mean_a_run_per_request(helper: Helper) -> None:
    source = helper.source()
    helper.prints({"token": SECRET, "expires_at": 1})
    assert [fetched(source) for _ in range(3)] == [SECRET] * 3
    assert helper.runs == 1
    helper.clock.now += SHORTEST_LIFE
    assert fetched(source) == SECRET
    assert helper.runs == 2


def test_a_ttl_of_the_pool_file_counts_where_nothing_else_is_said(helper: Helper) -> None:
    source = helper.source(ttl=300)
    fetched(source)
    helper.clock.now += 299
    assert source.at_hand()
    helper.clock.now += 1
    assert not source.at_hand()
    helper.prints({"token": SECRET, "expires_in": 100})
    fetched(source)
    helper.clock.now += 90
    assert not source.at_hand(), "whichever comes first"


def test_a_rejected_secret_is_fetched_anew_once(helper: Helper) -> None:
    """L06: the first that was rejected runs the command, the others find the new one there."""
    source = helper.source()
    fetched(source)
    helper.prints("sk-second-0123456789")
    do(*(source.fetch(SECRET) for _ in range(20)))
    assert fetched(source, SECRET) == "sk-second-0123456789"
    assert helper.runs == 2


def test_a_rejected_secret_is_used_by_nobody_while_another_is_fetched(helper: Helper) -> None:
    source = helper.source()
    fetched(source)

    async def rejected() -> None:
        waiting = asyncio.ensure_future(source.fetch(SECRET))
        await asyncio.sleep(0)
        assert not source.at_hand()
        await waiting

    asyncio.run(rejected())


def test_the_same_secret_again_is_no_refresh_and_no_reason_for_more_runs(helper: Helper) -> None:
    """L06: many requests that were rejected do not run a command each that has nothing new to say."""
    source = helper.source()
    assert [fetched(source, SECRET if number else "") for number in range(5)] == [SECRET] * 5
    assert helper.runs == 2
    assert source.at_hand()
    helper.clock.now += FIRST_PAUSE
    assert not source.at_hand(SECRET)
    assert fetched(source, SECRET) == SECRET
    assert helper.runs == 3
    helper.clock.now += FIRST_PAUSE
    assert source.at_hand(SECRET), "the pause has doubled"
    helper.prints("sk-second-0123456789")
    helper.clock.now += FIRST_PAUSE
    assert fetched(source, SECRET) == "sk-second-0123456789"
    assert not source.at_hand("sk-second-0123456789"), "a new secret ends the pauses"


def test_a_failure_is_remembered_for_some_seconds(helper: Helper) -> None:
    """A command that fails is not run for every request; the pauses double up to a minute."""
    helper.script("exit 7")
    source = helper.source()
    for ran, pause in enumerate((5.0, 10.0, 20.0, 40.0, 60.0, 60.0), 1):
        for _ in range(3):
            with pytest.raises(SecretError, match=r"^the command 'sh helper' ended with status 7"):
                fetched(source)
        assert helper.runs == ran
        helper.clock.now += pause - 0.1
        assert source.at_hand()
        helper.clock.now += 0.1
        assert not source.at_hand()
    helper.prints(SECRET)
    assert fetched(source) == SECRET
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (5.0, 60.0)


def test_a_failed_renewal_leaves_the_old_secret_until_it_expires(
    helper: Helper, caplog: pytest.LogCaptureFixture
) -> None:
    source = helper.source()
    helper.prints({"token": SECRET, "expires_in": 3600})
    fetched(source)
    helper.clock.now += 3600 - MARGIN
    helper.script("exit 7")
    with caplog.at_level(logging.WARNING):
        assert [fetched(source) for _ in range(3)] == [SECRET] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "the command 'sh helper' ended with status 7: run it by hand to see what it says: "
        "the secret it printed before stays in use"
    ]
    helper.clock.now += MARGIN
    caplog.clear()
    with pytest.raises(SecretError, match="status 7"):
        fetched(source)
    assert not caplog.records, "there is none that could stay in use"


def test_a_secret_that_replaced_a_rejected_one_stays_in_use_until_it_expires(helper: Helper) -> None:
    """L06: a request that was rejected with the one before asks late."""
    source = helper.source()
    fetched(source)
    helper.prints({"token": "sk-second-0123456789", "expires_in": 3600})
    assert fetched(source, SECRET) == "sk-second-0123456789"
    helper.clock.now += 3600 - MARGIN
    helper.script("exit 7")
    assert fetched(source, SECRET) == "sk-second-0123456789"


def test_a_rejected_secret_does_not_come_back_when_the_command_fails(helper: Helper) -> None:
    source = helper.source()
    fetched(source)
    helper.script("exit 7")
    for _ in range(2):
        with pytest.raises(SecretError, match="status 7"):
            fetched(source, SECRET)
        with pytest.raises(SecretError, match="status 7"):
            fetched(source)
    assert helper.runs == 2


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (f"echo {SECRET}; echo {SECRET} >&2; exit 1", "ended with status 1"),
        ("true", "is empty"),
        (f"echo '[\"{SECRET}\"]'", "neither a JSON object nor a string"),
        (f'echo \'{{"x": "{SECRET}"}}\'', "without a secret under a name"),
    ],
)
def test_no_error_shows_what_was_printed(
    helper: Helper, caplog: pytest.LogCaptureFixture, script: str, what: str
) -> None:
    """R07: neither the error nor the log at debug level."""
    helper.script(script)
    source = helper.source()
    with caplog.at_level(logging.DEBUG), pytest.raises(SecretError, match=what) as caught:
        fetched(source)
    assert str(caught.value).startswith("the command 'sh helper' ")
    assert SECRET not in str(caught.value) + caplog.text
    assert caught.value.__context__ is None


def test_a_late_or_missing_program_is_a_failure_like_any_other(helper: Helper) -> None:
    helper.script("sleep 600")
    with pytest.raises(SecretError, match=r"took longer than 0\.1 s"):
        fetched(helper.source(timeout=0.1))
    missing = CommandSecret(["./no-such-program"], helper.folder)
    with pytest.raises(SecretError, match=r"^the command './no-such-program' could not be started"):
        fetched(missing)


def test_nothing_but_reveal_gives_the_secret_away(helper: Helper) -> None:
    """R07: no repr, no pickle; and what looks like a secret in the command itself is cut."""
    source = helper.source()
    fetched(source)
    assert (repr(source), str(source)) == ("<secret command sh helper>", "the command 'sh helper'")
    assert copy.deepcopy(source) is source
    with pytest.raises(TypeError):
        pickle.dumps(source)
    careless = CommandSecret(["curl", "-H", "Authorization: Bearer abcdefghijklmnop", "sk-0123456789abcdef"], Path("/"))
    assert "abcdefghijklmnop" not in f"{careless!r} {careless}"
    assert "0123456789abcdef" not in f"{careless!r} {careless}"
