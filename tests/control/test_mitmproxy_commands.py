"""The commands inside mitmproxy: they exist with the right types, and go where they should (O04)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from mitmproxy import exceptions
from mitmproxy.test import taddons

from tests.control.test_control import Desk
from understudy.control.mitmproxy_commands import Commands


@pytest.fixture
def desk() -> Desk:
    """A control."""
    return Desk()


@pytest.fixture
def here(desk: Desk) -> Iterator[taddons.context]:
    """A mitmproxy that has the commands."""
    with taddons.context() as here:
        here.master.commands.collect_commands(Commands(desk.control))
        yield here


def test_o04_the_commands_with_their_arguments(here: taddons.context) -> None:
    """O04: as mitmproxy's console shows them; a command whose types it does not know would be missing."""
    commands = {name: each for name, each in here.master.commands.commands.items() if name.startswith("pool.")}
    assert {name: each.signature_help() for name, each in commands.items()} == {
        "pool.status": "pool.status  -> str[]",
        "pool.explain": "pool.explain *alias -> str[]",
        "pool.pick": "pool.pick *alias -> str[]",
        "pool.learned": "pool.learned *what -> str[]",
        "pool.drill": "pool.drill *what -> str[]",
        "pool.usage": "pool.usage *what -> str[]",
        "pool.suspend": "pool.suspend *what -> str[]",
        "pool.resume": "pool.resume *what -> str[]",
        "pool.probe": "pool.probe *what -> str[]",
        "pool.reload": "pool.reload  -> str[]",
        "pool.json": "pool.json name *words -> str",
    }
    assert all(each.help for each in commands.values())


def test_o04_by_command(here: taddons.context, desk: Desk) -> None:
    """O04: what they return is what people see; the dialect may be left out."""
    execute = here.master.commands.execute
    assert execute("pool.suspend work gpt-5 10m")[0].startswith("candidate work gpt-5 is suspended by hand")
    assert execute("pool.suspend router/openai/gpt-5")[0].startswith("candidate router openai/gpt-5 is suspended")
    assert "set by a command in the proxy" in execute("pool.status")[0]
    assert execute("pool.pick gpt-5 openai") == execute("pool.pick gpt-5") == [
        "gpt-5 (openai): home gpt-5 would be asked (route gpt-5)"
    ]  # fmt: skip
    assert "`pool.resume work gpt-5`" in "".join(execute("pool.explain gpt-5"))
    assert execute("pool.probe work gpt-5") == [
        "candidate work gpt-5 will be probed by the next request; it was suspended: by hand"
    ]
    assert execute("pool.usage 7d")[0].startswith("no tokens were counted since ")
    assert len(execute("pool.resume all")) == 2
    execute("pool.reload")
    assert desk.reloads == 1


def test_a_model_with_spaces_in_quotes(here: taddons.context, desk: Desk) -> None:
    """What `explain` shows to clear it can be typed as it stands."""
    desk.suspend("work", "a model")
    (line,) = here.master.commands.execute("pool.resume work 'a model'")
    assert line.startswith("candidate work a model is back")


def test_o04_as_json(here: taddons.context) -> None:
    """O04: each of them, with or without its prefix."""
    assert json.loads(here.master.commands.execute("pool.json status"))["entries"] == []
    assert json.loads(here.master.commands.execute("pool.json usage today day"))["by"] == ["day"]
    document = json.loads(here.master.commands.execute("pool.json pool.pick gpt-5 openai"))
    assert document["results"][0]["credential"] == "work"


@pytest.mark.parametrize(
    "words", ["pool.resume", "pool.explain nothing", "pool.json", "pool.json nothing", "pool.pick"]
)
def test_errors_are_mitmproxys(here: taddons.context, words: str) -> None:
    """O04: so that the console and mitmweb show them."""
    with pytest.raises(exceptions.CommandError):
        here.master.commands.execute(words)
