"""What tools do besides model calls: telemetry, logins, updates, settings. None of it is a call, by host or by path.

Where such traffic has a host of its own it is tunnelled, not decrypted (that a tunnel is one: tests/e2e/test_run.py).
Where it shares a host with model calls it passes as it is, with the tool's own credential (R10).
"""

from __future__ import annotations

import pytest

from understudy.dialects import DIALECTS
from understudy.model.pool import Pool, Upstream
from understudy.requests.sites import Sites

POOL = Pool(
    upstreams={
        name: Upstream(name, name, "https", host, 443, base_path)
        for name in ("openai", "anthropic", "gemini")
        for host, base_path in DIALECTS[name].sites[:1]
    }
)
SITES = Sites(POOL)


@pytest.mark.parametrize(
    "host",
    [
        "auth.openai.com", "ab.chatgpt.com", "platform.claude.com", "oauth2.googleapis.com", "play.googleapis.com",
        "api.github.com", "github.com", "raw.githubusercontent.com", "models.opencode.ai",
        "data.cline.bot", "otel.cline.bot",
    ],
)  # fmt: skip
def test_telemetry_logins_and_updates_are_not_looked_into(host: str) -> None:
    """O06: hosts that Claude Code, Codex, Gemini CLI, opencode, Cline and aider were seen to call besides."""
    assert not SITES.pooled(host, 443)


@pytest.mark.parametrize(
    ("host", "method", "path"),
    [
        ("api.anthropic.com", "POST", "/api/event_logging/v2/batch"),
        ("api.anthropic.com", "GET", "/api/claude_code/settings"),
        ("api.anthropic.com", "GET", "/api/claude_code/policy_limits"),
        ("api.anthropic.com", "GET", "/api/claude_code/organizations/metrics_enabled"),
        ("api.anthropic.com", "GET", "/api/claude_cli/bootstrap?entrypoint=sdk-cli"),
        ("api.anthropic.com", "GET", "/api/oauth/profile"),
        ("api.anthropic.com", "POST", "/api/eval/sdk-0"),
        ("api.anthropic.com", "GET", "/mcp-registry/v0/servers?version=latest"),
        ("api.openai.com", "GET", "/v1/models"),
        ("api.openai.com", "GET", "/v1/realtime?model=gpt-realtime"),
        ("api.openai.com", "GET", "/v1/responses/resp_1"),
        ("generativelanguage.googleapis.com", "GET", "/v1beta/models"),
    ],
)
def test_side_calls_on_a_vendors_host_are_no_calls(host: str, method: str, path: str) -> None:
    """R10: the same host, often with the same key, and nothing that a route could serve."""
    assert SITES.recognise(host, 443, method, path) is None
