"""A demonstration without any account: a pool file, an upstream on loopback, and commands to try them with.

Nothing leaves the machine: the commands name the vendors' hosts, but every candidate of the pool is the demonstration
upstream. Start with ``upstream``.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from understudy.demo.roles import Role

DIALECTS = {"openai": ("/v1", "gpt-*"), "anthropic": ("", "claude-*"), "gemini": ("", "gemini-*")}
"""Dialect -> (base path at the demonstration upstream, glob of its route)."""

DRILLED = "gpt-drill"
"""The model of the demonstration whose route has two candidates that work."""
TOOL_SECRET = "sk-what-the-tool-has"
"""The credential that the demonstration commands send; no upstream ever sees it."""


def environment() -> dict[str, str]:
    """The variables that the demonstration's pool file takes its secrets from, e.g. ``DEMO_WORKS``."""
    return {role.variable: role.value for role in Role}


def pool_yaml(port: int) -> str:
    """The text of a pool file for a demonstration upstream at this port; its secrets are those of ``environment()``.

    For each dialect a route of three candidates: one refuses, one fails, one works. And one of two that work, for a
    drill.
    """
    base = f"http://127.0.0.1:{port}"
    lines = ["# The demonstration: made-up credentials at an upstream on this machine.", "upstreams:"]
    lines += [f"  {name}: {{dialect: {name}, url: {base}{path}}}" for name, (path, _) in DIALECTS.items()]
    lines.append("credentials:")
    for name in DIALECTS:
        for role in Role:
            lines.append(f"  {name}-{role.part}: {{upstream: {name}, secret: {{env: {role.variable}}}}}")
    lines.append(f"  openai-spare: {{upstream: openai, secret: {{env: {Role.WORKS.variable}}}}}")
    lines += ["routes:", f"  {DRILLED}: [openai-works, openai-spare]"]
    for name, (_, glob) in DIALECTS.items():
        members = ", ".join(f"{name}-{role.part}" for role in Role)
        lines += [f"  {glob}:", f"    candidates: [{members}]"]
    works = ", ".join(f"{name}-{Role.WORKS.part}" for name in DIALECTS)
    lines += ["  default:", f"    candidates: [{works}]", ""]
    return "\n".join(lines)


def curl_lines(proxy_port: int, ca_path: str) -> list[tuple[str, str]]:
    """Commands to try, as (title, command): real vendors' URLs through the proxy, over TLS with the proxy's CA."""
    chat = [{"role": "user", "content": "Who are you?"}]
    calls: list[tuple[str, str, str, list[str], Mapping[str, object]]] = [
        (
            "Chat: one candidate refuses, one is overloaded, the third answers",
            "curl -sS",
            "https://api.openai.com/v1/chat/completions",
            [f"authorization: Bearer {TOOL_SECRET}"],
            {"model": "gpt-5", "messages": chat},
        ),
        (
            "Streamed, another model: one fails inside its stream, and the answer still arrives live",
            "curl -sS -N",
            "https://api.openai.com/v1/chat/completions",
            [f"authorization: Bearer {TOOL_SECRET}"],
            {"model": "gpt-5-mini", "messages": chat, "stream": True},
        ),
        (
            "Anthropic messages, streamed",
            "curl -sS -N",
            "https://api.anthropic.com/v1/messages",
            [f"x-api-key: {TOOL_SECRET}", "anthropic-version: 2023-06-01"],
            {"model": "claude-sonnet-5", "max_tokens": 256, "messages": chat, "stream": True},
        ),
        (
            "Gemini, with the model in the path",
            "curl -sS",
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-3.8-flash:generateContent",
            [f"x-goog-api-key: {TOOL_SECRET}"],
            {"contents": [{"role": "user", "parts": [{"text": "Who are you?"}]}]},
        ),
    ]
    lines = []
    for title, curl, url, headers, body in calls:
        lines.append((title, _curl(proxy_port, ca_path, curl, url, headers, body)))
    return lines


def drill_line(proxy_port: int, ca_path: str, pid: int) -> tuple[str, str]:
    """The last command to try, as (title, command for a shell): the best candidate fails on purpose. ``pid``: the
    proxy's process."""
    program = Path(sys.executable).with_name("understudy")
    understudy = shlex.quote(str(program)) if program.exists() else f"{shlex.quote(sys.executable)} -m understudy.cli"
    body = {"model": DRILLED, "messages": [{"role": "user", "content": "Who are you?"}]}
    headers = [f"authorization: Bearer {TOOL_SECRET}"]
    call = _curl(proxy_port, ca_path, "curl -sS", "https://api.openai.com/v1/chat/completions", headers, body)
    begin = f"{understudy} drill --pid {pid} openai-works {DRILLED} 429 1m"
    title = (
        "A drill: the first of two candidates that work fails for a minute, the other one answers; then the sum of it"
    )
    return title, f"{begin} && {call} && echo && {understudy} drill --pid {pid} stop"


def _curl(
    proxy_port: int, ca_path: str, curl: str, url: str, headers: Sequence[str], body: Mapping[str, object]
) -> str:
    proxy = f"--proxy http://127.0.0.1:{proxy_port} --cacert {shlex.quote(ca_path)}"
    head = " ".join(f"-H {shlex.quote(header)}" for header in [*headers, "content-type: application/json"])
    return f"{curl} {proxy} {url} {head} -d {shlex.quote(json.dumps(body))}"


def start_upstream() -> tuple[subprocess.Popen[str], int]:
    """Start the demonstration upstream as a process of its own; return it and its port once it is ready.

    It ends by itself with this process; whoever wants it gone earlier terminates it. Raises RuntimeError when it does
    not start.
    """
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    process = subprocess.Popen(
        [sys.executable, "-m", "understudy.demo.upstream", "--port", "0", "--parent", str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.stdout.close()  # it prints nothing more
    if not line.strip().isdigit():
        process.kill()
        process.wait()
        raise RuntimeError("the demonstration upstream did not start")
    return process, int(line)
