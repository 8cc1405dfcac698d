"""How many tokens a request is likely to take, estimated from its bytes: enough to tell whether a limit could hold it.

A token is about four bytes of the text of a prompt. What is no text (an image, a document in base64) is counted apart:
its bytes say nothing about its tokens. No model's tokenizer is asked: this only orders candidates.
"""

from __future__ import annotations

import re

BYTES_A_TOKEN = 4
"""OpenAI's rule of thumb for English (its help page on tokens); other languages take more."""
TOKENS_A_FILE = 1500
"""About what vendors count for an image of the usual size."""

# Possessive, and only from the beginning of a run, so that no body costs more than linear time.
_BINARY = re.compile(rb"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{512,}+")
_OUTPUT = re.compile(
    rb'"(?:max_tokens|max_completion_tokens|max_output_tokens|max_tokens_to_sample|maxOutputTokens|num_predict)"'
    rb"\s{0,8}:\s{0,8}(\d{1,7})\b"
)


def tokens_in(body: bytes) -> tuple[int, int]:
    """The tokens of a prompt, and the most output that is asked for (0: it does not say). ``body``: decoded."""
    binary = [len(found.group()) for found in _BINARY.finditer(body)]
    prompt = (len(body) - sum(binary)) // BYTES_A_TOKEN + TOKENS_A_FILE * len(binary)
    output = max((int(found.group(1)) for found in _OUTPUT.finditer(body)), default=0)
    return prompt, output
