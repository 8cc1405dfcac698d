"""What the `understudy rules` commands are given: files with replies, folders with rules, and words that are wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from understudy.authoring.reply_file import LARGEST, ReplyFileError, Saved, read_replies
from understudy.codec.yaml_nodes import RuleError
from understudy.rules import Speaker, load_folders


def replies_in(arguments: argparse.Namespace) -> list[Saved] | None:
    """The replies of the file that was named; None when there is none, which is then said."""
    try:
        if arguments.file in (None, "-"):
            data = sys.stdin.buffer.read(LARGEST)
        else:
            with open(arguments.file, "rb") as file:
                data = file.read(LARGEST)
        found = read_replies(data, arguments.status, arguments.model)
    except (OSError, ReplyFileError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        usage(f"{arguments.file or 'the input'}: {what}")
        return None
    host = arguments.host.lower()
    return [saved if saved.reply.host else replace(saved, reply=replace(saved.reply, host=host)) for saved in found]


def load_rules(folders: Sequence[Path]) -> list[tuple[Speaker, ...]] | None:
    """The rules of these folders and the shipped ones; None when something is wrong, which is then said."""
    try:
        return load_folders(folders)
    except RuleError as error:
        print(error, file=sys.stderr)
        return None


def usage(text: str) -> int:
    """Say that a command was used wrongly; the exit status."""
    print(f"understudy rules: {text}", file=sys.stderr)
    return 2
