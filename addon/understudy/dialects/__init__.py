"""The wire formats that understudy knows, by the name a pool file gives them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .anthropic import Anthropic
from .anthropic_vertex import AnthropicVertex
from .azure_openai import AzureOpenAI
from .base import Asked, Call, Dialect, Endpoint, Kind, Progress, StreamEvent, Written, read_json
from .bedrock import Bedrock
from .cohere import Cohere
from .gemini import Gemini
from .ollama import Ollama
from .openai import OpenAI
from .vertex import Vertex

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
]
