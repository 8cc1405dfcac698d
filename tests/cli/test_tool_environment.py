"""The variables that lead a tool through the proxy, and the ones that would lead it round."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.cli import tool_environment
from understudy.control.registry import Running

HOSTS = ("10.1.2.3", "127.0.0.1", "api.openai.com", "llm.corp", "localhost")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("", ""),
        ("localhost,127.0.0.1", ""),
        ("*", ""),
        ("api.openai.com", ""),
        ("API.OpenAI.com:443", ""),
        (".openai.com", ""),
        ("*.openai.com", ""),
        ("openai.com", ""),
        ("com", ""),
        ("notopenai.com, example.org", "notopenai.com,example.org"),
        ("eu.api.openai.com", "eu.api.openai.com"),
        ("10.0.0.0/8", ""),
        ("10.1.2.3", ""),
        ("192.168.0.0/16", "192.168.0.0/16"),
        ("127.0.0.0/8", "127.0.0.0/8"),
        ("llm.corp,git.corp,llm.corp", "git.corp"),
        (".corp", ""),
        (".", "."),
        ("[::1]", "[::1]"),
    ],
)
def test_no_proxy_leads_no_pooled_host_round(written: str, kept: str) -> None:
    expected = "localhost,127.0.0.1,::1" + (f",{kept}" if kept else "")
    assert tool_environment.no_proxy({"NO_PROXY": written}, HOSTS) == expected
    assert tool_environment.no_proxy({"no_proxy": written}, HOSTS) == expected


PATTERNS = ("api.*.githubcopilot.com", "bedrock-runtime.*.amazonaws.com", "*.openai.azure.com", "*-ai.googleapis.com")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("mycorp.openai.azure.com", False),
        ("MyCorp.OpenAI.Azure.com:443", False),
        (".openai.azure.com", False),
        ("*.openai.azure.com", False),
        ("openai.azure.com", False),
        ("azure.com", False),
        (".com", False),
        ("*", False),
        (".mycorp.openai.azure.com", False),
        ("a.mycorp.openai.azure.com", True),
        ("mycorp.azure.com", True),
        (".blob.core.azure.com", True),
        ("notopenai.azure.com", True),
        ("bedrock-runtime.eu-west-1.amazonaws.com", False),
        (".eu-west-1.amazonaws.com", False),
        ("amazonaws.com", False),
        ("s3.eu-west-1.amazonaws.com", True),
        ("bedrock.eu-west-1.amazonaws.com", True),
        ("api.business.githubcopilot.com", False),
        ("business.githubcopilot.com", False),
        ("proxy.business.githubcopilot.com", True),
        ("europe-west1-ai.googleapis.com", False),
        ("*-ai.googleapis.com", False),
        ("*west1-ai.googleapis.com", False),
        ("storage.googleapis.com", True),
        ("10.0.0.0/8", True),
        ("[fe80::1]:443", True),
        (".", True),
        ("git.corp", True),
    ],
)
def test_no_proxy_leads_no_host_of_a_pattern_round(written: str, kept: bool) -> None:
    expected = "localhost,127.0.0.1,::1" + (f",{written}" if kept else "")
    assert tool_environment.no_proxy({"NO_PROXY": written}, PATTERNS) == expected


@pytest.mark.parametrize(("host", "covered"), [("eu-ai.corp", True), ("x.eu-ai.corp", True), ("ai.corp", False)])
def test_a_star_without_a_dot_covers_what_ends_so(host: str, covered: bool) -> None:
    """As Node.js reads it."""
    assert tool_environment.bypasses("*-ai.corp", host) is covered


labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@given(st.sampled_from(PATTERNS), labels, st.integers(0, 4), st.sampled_from(["", ".", "*."]))
def test_whatever_covers_a_host_of_a_pattern_goes(pattern: str, label: str, cut: int, lead: str) -> None:
    """Any end of any name that the pattern stands for, in any form."""
    name = pattern.replace("*", label)
    entry = lead + ".".join(name.split(".")[min(cut, name.count(".")) :])
    assert tool_environment.bypasses(entry, name)
    assert tool_environment.bypasses(entry, pattern)


@pytest.fixture
def running(tmp_path: Path) -> Running:
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\nPROXY\n-----END CERTIFICATE-----\n")
    return Running(1, 4711, str(ca), hosts=HOSTS)


def test_every_variable_that_a_tool_needs(running: Running, tmp_path: Path) -> None:
    """The set of tests/clients, which real programs were run with."""
    changes = tool_environment.variables(running, {"SSL_CERT_DIR": "/etc/ssl/certs"}, tmp_path)
    assert changes["SSL_CERT_DIR"] is None
    assert changes["HTTPS_PROXY"] == changes["https_proxy"] == "http://127.0.0.1:4711"
    assert changes["NODE_USE_ENV_PROXY"] == "1"
    assert changes.keys() == {
        "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "NODE_USE_ENV_PROXY", "NODE_EXTRA_CA_CERTS",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "UNDERSTUDY_PROXY",
    }  # fmt: skip


def test_nothing_else_of_the_environment_changes(running: Running, tmp_path: Path) -> None:
    before = {"PATH": "/bin", "SSL_CERT_DIR": "/certs", "HTTP_PROXY": "http://corp:1", "OPENAI_API_KEY": "sk-own"}
    after = tool_environment.applied(tool_environment.variables(running, before, tmp_path), before)
    assert {name: after.get(name) for name in before} == {**before, "SSL_CERT_DIR": None}


def test_a_shell_reads_the_lines(running: Running, tmp_path: Path) -> None:
    folder = tmp_path / "it's a $(folder)"
    folder.mkdir()
    changes = tool_environment.variables(running, {}, folder)
    script = "\n".join([*tool_environment.shell_lines(changes), "env"])
    done = subprocess.run(["sh", "-c", script], env={"SSL_CERT_DIR": "x"}, capture_output=True, text=True, check=True)
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert {name: seen.get(name) for name in changes} == changes
    assert all(shlex.split(line) for line in tool_environment.shell_lines(changes))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ""),
        ({"HTTPS_PROXY": "http://corp:3128"}, "http://corp:3128"),
        ({"https_proxy": "http://corp:3128"}, "http://corp:3128"),
        ({"ALL_PROXY": "socks5://corp:1080"}, "socks5://corp:1080"),
        ({"HTTP_PROXY": "http://corp:3128"}, ""),
        ({"HTTPS_PROXY": "http://127.0.0.1:1", "UNDERSTUDY_PROXY": "http://127.0.0.1:1"}, ""),
        ({"HTTPS_PROXY": "http://corp:3128", "UNDERSTUDY_PROXY": "http://127.0.0.1:1"}, "http://corp:3128"),
    ],
)
def test_the_way_out_of_this_machine(environ: dict[str, str], expected: str) -> None:
    """A proxy that the user needs is told from one that an earlier `understudy run` has set."""
    assert tool_environment.way_out(environ) == expected
