"""How many tokens a request is likely to take, estimated from its bytes: enough to tell whether a limit could hold it.

A token is about four bytes of the text of a prompt. What is no text (an image, a document in base64) is counted apart:
its bytes say nothing about its tokens. No model's tokenizer is asked: this only orders candidates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from understudy.codec.abridged import KEPT, Abridged, abridge

BYTES_A_TOKEN = 4
"""OpenAI's rule of thumb for English (its help page on tokens); other languages take more."""
TOKENS_A_FILE = 1500
"""About what vendors count for an image of the usual size."""

SHORTEST_FILE = 512
"""Bytes in base64 that are no text."""
MOST_SEARCHED = 1024 * 1024
"""Bytes that are searched for files one by one; of what is left of a longer request the rest counts as text."""
_SAMPLE = 64
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SAMPLED = re.compile(rb"[A-Za-z0-9+/]{%d}" % _SAMPLE)
# Possessive, and only from the beginning of a run, so that no body costs more than linear time.
_BINARY = re.compile(rb"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{%d,}+" % SHORTEST_FILE)
_OUTPUT = re.compile(
    rb'"(?:max_tokens|max_completion_tokens|max_output_tokens|max_tokens_to_sample|maxOutputTokens|num_predict)"'
    rb"\s{0,8}:\s{0,8}(\d{1,7})\b"
)


def tokens_in(body: bytes, short: Abridged | None = None) -> tuple[int, int]:
    """The tokens of a prompt, and the most output that is asked for (0: it does not say). ``body``: decoded.

    ``short``: the body without the middle of its long strings, None where nobody has made it.
    """
    short = short or abridge(body)
    binary = [len(found.group()) for found in _BINARY.finditer(short.text, 0, MOST_SEARCHED)]
    binary += [size for size in _left_out(body, short) if size >= SHORTEST_FILE]
    prompt = (len(body) - sum(binary)) // BYTES_A_TOKEN + TOKENS_A_FILE * len(binary)
    output = max((int(found.group(1)) for found in _OUTPUT.finditer(short.text)), default=0)
    return prompt, output


def _left_out(body: bytes, short: Abridged) -> Iterator[int]:
    """The bytes of each string whose middle was left out, and looks like a file in three places."""
    moved = 0
    for cut, shorter in short.cuts:
        begin, end = cut + moved, cut + moved + shorter + 1
        moved += shorter
        samples = (begin, (begin + end - _SAMPLE) // 2, end - _SAMPLE)
        if all(_SAMPLED.match(body, at) for at in samples):
            before, behind = body[begin - KEPT : begin], body[end : end + KEPT]
            ends = len(before) - len(before.rstrip(_BASE64)) + len(behind) - len(behind.lstrip(_BASE64))
            yield end - begin + ends
