"""What a real mitmdump saved, told by the real program: R07 and O05, and who refused and why."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from .behaviours import json_reply
from .conftest import Perform
from .stage import CHAT, SECRETS, TOOL, Stage, refusal

PROGRAM = Path(sys.executable).with_name("understudy")


@pytest.fixture
def stage(perform: Perform) -> Stage:
    """One of the test's own: every command reads all that its proxy has saved. Another call comes first."""
    opened = perform()
    alias = opened.alias()
    opened.play(alias, {CHAT.first: CHAT.answers()})
    assert opened.call(CHAT, alias).status == 200
    return opened


def understudy(stage: Stage, *arguments: str) -> str:
    """What the program says, on both outputs; it knows no secret and needs none."""
    home = stage.proxy.directory / "elsewhere"
    done = subprocess.run(
        [PROGRAM, *arguments],
        env={"HOME": str(home), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def number_of(stage: Stage, alias: str) -> str:
    """The number of the call for this alias, as `understudy explain FILE` lists it."""
    listed = understudy(stage, "explain", str(stage.proxy.flow_path)).splitlines()
    (line,) = [line for line in listed if f"  {alias} (" in line]
    return line.split()[0].removeprefix("#")


def test_the_story_of_a_failover_names_who_refused_and_why(stage: Stage) -> None:
    """O05: from the dump alone, and with the pool that decided it."""
    alias = stage.alias()
    stage.play(alias, {CHAT.first: refusal(CHAT, alias), CHAT.second: CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200
    file, number = str(stage.proxy.flow_path), number_of(stage, alias)
    for more in ((), ("--pool", str(stage.proxy.pool_path))):
        story = understudy(stage, "explain", file, number, *more)
        assert f"The tool asked api.openai.com for {alias}." in story
        assert f"{CHAT.first} {alias}: model_unsupported by general/model_unsupported" in story
        assert f"the tool got HTTP 200 of {CHAT.second} {alias}" in story
    assert f"1 {CHAT.first} {alias}, 2 {CHAT.second} {alias}" in story


def test_an_unknown_error_becomes_a_draft_and_nothing_holds_a_secret(stage: Stage, tmp_path: Path) -> None:
    """R07: an upstream that echoes what it was sent, in what is told, played and written."""
    alias = stage.alias("sure")
    sent = [SECRETS[CHAT.first], TOOL]
    echoes = [*sent, *(base64.b64encode(each.encode()).decode() for each in sent)]
    odd = {"error": {"message": f"The seat of {' and '.join(echoes)} is not staffed", "code": 77}}
    stage.play(alias, {CHAT.first: json_reply(418, odd), CHAT.second: CHAT.answers()})
    assert stage.call(CHAT, alias).status == 418
    file, number, pool = str(stage.proxy.flow_path), number_of(stage, alias), str(stage.proxy.pool_path)
    told = [understudy(stage, "explain", file, number)]
    played = understudy(stage, "replay", file, "--pool", pool, "--json")
    (call,) = [each for each in map(json.loads, played.splitlines()) if each.get("alias") == alias]
    assert call["tried"][0]["label"] == "unknown"
    folder = str(tmp_path / "mine")
    wanted = ["--label", "overloaded", "--id", "acme/seat", "--folder", folder]
    told += [played, understudy(stage, "rules", "new", file, number, *wanted)]
    draft = (tmp_path / "mine" / "acme" / "seat.yaml").read_text()
    assert "not staffed" in draft
    for text in (*told, draft):
        for secret in (*SECRETS.values(), TOOL):
            for form in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()):
                assert form not in text
