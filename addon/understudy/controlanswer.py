"""From a command, out of a shell or from the pool page, to its reply: text for people, and values for programs."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from understudy.control import Control
from understudy.controlserver import Answer
from understudy.statustext import as_lines
from understudy.target import ControlError

logger = logging.getLogger("understudy")


def answers(control: Control, place: str = "in a shell") -> Answer:
    """How a control answers somebody who asks from there."""

    def answer(command: str, words: Sequence[str], who: str) -> Mapping[str, Any]:
        try:
            result = control.run(command, words, f"{who} {place}")
        except ControlError as error:
            return {"error": str(error)}
        except Exception as error:
            # Whoever asks must hear of it, and the proxy goes on. Without the error's text: who knows what is in it.
            where = f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}"
            logger.error(f"understudy: internal error in a command: {where}")
            return {"error": f"internal error, see the proxy's log: {type(error).__name__}"}
        return {"lines": as_lines(result, "understudy "), "result": asdict(result)}

    return answer
