"""Wire formats: which requests are calls, where the model name and the credential sit, how errors and events look.

``DIALECTS`` has each by the name that a pool file gives it; ``base`` says what a dialect has to answer. The package
never decides whether a reply is good: it only says what stands where. Start with ``base``, then ``openai``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from understudy.dialects.anthropic import Anthropic
from understudy.dialects.anthropic_vertex import AnthropicVertex
from understudy.dialects.azure_openai import AzureOpenAI
from understudy.dialects.base import (
    AUTH_HEADERS,
    Asked,
    Call,
    Dialect,
    Endpoint,
    Kind,
    Progress,
    StreamEvent,
    Written,
    read_json,
    without_parameters,
)
from understudy.dialects.bedrock import Bedrock
from understudy.dialects.cohere import Cohere
from understudy.dialects.gemini import Gemini
from understudy.dialects.ollama import Ollama
from understudy.dialects.openai import OpenAI
from understudy.dialects.vertex import Vertex

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        OpenAI.name: OpenAI(),
        AzureOpenAI.name: AzureOpenAI(),
        Anthropic.name: Anthropic(),
        AnthropicVertex.name: AnthropicVertex(),
        Gemini.name: Gemini(),
        Vertex.name: Vertex(),
        Bedrock.name: Bedrock(),
        Cohere.name: Cohere(),
        Ollama.name: Ollama(),
    }
)

__all__ = [
    "AUTH_HEADERS",
    "DIALECTS",
    "Asked",
    "Call",
    "Dialect",
    "Endpoint",
    "Kind",
    "Progress",
    "StreamEvent",
    "Written",
    "read_json",
    "without_parameters",
]
