"""Vendors that are known by the variable of their key, for ``understudy init``: where each is, and what its keys are.

Some have an address for each customer. It stands in the variables that their own tools read; without them there is
nothing to be written, because a key must not be sent to a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from understudy.codec.yaml_nodes import Kind, Scalar
from understudy.config import fields


class NotPlacedError(ValueError):
    """A key cannot be used as it is. The text names the variable and says what to do, and holds no value."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor that is known by the variable of its key. ``globs``: the names that only its models have.

    ``url`` is "" where it is another one for each customer. ``begins``: how secrets begin that go out in the form which
    the vendor wants; () where all do.
    """

    name: str
    variable: str
    dialect: str
    url: str
    globs: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    api_version: str = ""

    def placed(self, variable: str, secret: str, environ: Mapping[str, str]) -> Vendor:
        """The vendor with the address that a key of ``variable`` is for. Raises NotPlacedError."""
        if self.begins and not secret.startswith(self.begins):
            forms = " nor ".join(f"{start}..." for start in self.begins)
            mend = "a gateway's belongs to an upstream of its own, with the gateway's url: add both to the pool file"
            raise NotPlacedError(f"{variable} holds neither {forms}, so it is no credential of {self.name}: {mend}")
        match self.dialect:
            case "azure-openai":
                return self._at_resource(variable, environ)
            case "bedrock":
                return replace(self, url=f"https://bedrock-runtime.{_region(variable, environ)}.amazonaws.com")
        return self

    def _at_resource(self, variable: str, environ: Mapping[str, str]) -> Vendor:
        """At the endpoint with the suffix of the key's variable, else at the one without."""
        own = AZURE_ENDPOINT + variable.removeprefix(self.variable)
        resource = _resource(variable, own if environ.get(own, "").strip() else AZURE_ENDPOINT, environ)
        version = _api_version(variable, environ)
        return replace(self, url=resource if version else f"{resource}/openai/v1", api_version=version)


VENDORS = (
    Vendor("openai", "OPENAI_API_KEY", "openai", "https://api.openai.com/v1", ("gpt-*", "o1*", "o3*", "o4*")),
    Vendor("anthropic", "ANTHROPIC_API_KEY", "anthropic", "https://api.anthropic.com", ("claude-*",)),
    Vendor(
        "anthropic",
        "ANTHROPIC_AUTH_TOKEN",
        "anthropic",
        "https://api.anthropic.com",
        ("claude-*",),
        ("sk-ant-oat", "sk-ant-api"),
    ),
    Vendor("gemini", "GEMINI_API_KEY", "gemini", "https://generativelanguage.googleapis.com", ("gemini-*",)),
    Vendor("gemini", "GOOGLE_API_KEY", "gemini", "https://generativelanguage.googleapis.com", ("gemini-*",)),
    Vendor("azure-openai", "AZURE_OPENAI_API_KEY", "azure-openai", ""),
    Vendor("bedrock", "AWS_BEARER_TOKEN_BEDROCK", "bedrock", ""),
    Vendor("cohere", "CO_API_KEY", "cohere", "https://api.cohere.com"),
    Vendor("cohere", "COHERE_API_KEY", "cohere", "https://api.cohere.com"),
    Vendor("ollama", "OLLAMA_API_KEY", "ollama", "https://ollama.com"),
    Vendor("openrouter", "OPENROUTER_API_KEY", "openai", "https://openrouter.ai/api/v1", ("*/*",)),
    Vendor("deepseek", "DEEPSEEK_API_KEY", "openai", "https://api.deepseek.com", ("deepseek-*",)),
    Vendor("mistral", "MISTRAL_API_KEY", "openai", "https://api.mistral.ai/v1", ("*stral-*",)),
    Vendor("xai", "XAI_API_KEY", "openai", "https://api.x.ai/v1", ("grok-*",)),
    Vendor("moonshot", "MOONSHOT_API_KEY", "openai", "https://api.moonshot.ai/v1", ("kimi-*",)),
    Vendor("zai", "ZAI_API_KEY", "openai", "https://api.z.ai/api/paas/v4", ("glm-*",)),
    Vendor("dashscope", "DASHSCOPE_API_KEY", "openai", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"),
    Vendor("groq", "GROQ_API_KEY", "openai", "https://api.groq.com/openai/v1"),
    Vendor("together", "TOGETHER_API_KEY", "openai", "https://api.together.xyz/v1"),
    Vendor("fireworks", "FIREWORKS_API_KEY", "openai", "https://api.fireworks.ai/inference/v1"),
    Vendor("cerebras", "CEREBRAS_API_KEY", "openai", "https://api.cerebras.ai/v1"),
    Vendor("perplexity", "PERPLEXITY_API_KEY", "openai", "https://api.perplexity.ai", ("sonar*",)),
)
AZURE_ENDPOINT = "AZURE_OPENAI_ENDPOINT"
AZURE_VERSIONS = ("AZURE_OPENAI_API_VERSION", "OPENAI_API_VERSION")
AWS_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_DATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?")
_UNDATED = frozenset({"", "v1", "preview", "latest"})
"""What Azure's v1 path takes for a version, or nothing."""
_REGION = re.compile(r"[a-z]{2}(-[a-z0-9]{1,20}){1,4}")
_PLAIN = re.compile(r"https://[A-Za-z0-9._~:/-]+")
"""What needs no quotes in a pool file, and holds neither a password nor a query."""
_OPENAI = re.compile(r"/openai(?![^/])")


def dialects_named(alias: str) -> frozenset[str]:
    """The dialects of the vendors whose models alone are called like this alias."""
    # `*/*` is a form that any gateway's names may have.
    own = ((glob, vendor.dialect) for vendor in VENDORS for glob in vendor.globs if glob != "*/*")
    return frozenset(dialect for glob, dialect in own if fnmatchcase(alias, glob))


def _first(names: tuple[str, ...], environ: Mapping[str, str]) -> tuple[str, str]:
    """The first of these variables that is set, and its value; the first and "" without one."""
    found = ((name, value) for name in names if (value := environ.get(name, "").strip()))
    return next(found, (names[0], ""))


def _resource(variable: str, name: str, environ: Mapping[str, str]) -> str:
    """The address of a resource, whichever of the urls that Azure shows for it was copied."""
    example = "https://NAME.openai.azure.com"
    written = environ.get(name, "").strip()
    if not written:
        raise NotPlacedError(
            f"{variable}, because {name} is not set: set it to that of the resource, such as {example}"
        )
    try:
        parts = urlsplit(written)
        found = f"{parts.scheme}://{parts.netloc}{_OPENAI.split(parts.path)[0].rstrip('/').removesuffix('/v1')}"
        if not _PLAIN.fullmatch(found):
            raise ValueError
        fields.url(Scalar(1, found, Kind.TEXT))
    except (ValueError, fields.Wrong):
        raise NotPlacedError(
            f"{variable}, because {name} is no https address: set it to one such as {example}"
        ) from None
    return found


def _api_version(variable: str, environ: Mapping[str, str]) -> str:
    """The dated version of Azure's API, "" for the v1 path, which needs none."""
    name, version = _first(AZURE_VERSIONS, environ)
    if version in _UNDATED:
        return ""
    if not _DATED.fullmatch(version):
        raise NotPlacedError(f"{variable}, because {name} is no version: set it to one such as 2024-10-21, or unset it")
    return version


def _region(variable: str, environ: Mapping[str, str]) -> str:
    """The region of AWS."""
    name, region = _first(AWS_REGIONS, environ)
    if not region:
        either = " nor ".join(AWS_REGIONS)
        raise NotPlacedError(f"{variable}, because neither {either} is set: set one to a region such as us-east-1")
    if not _REGION.fullmatch(region):
        raise NotPlacedError(f"{variable}, because {name} is no region: set it to one such as us-east-1")
    return region
