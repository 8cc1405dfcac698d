"""What the doctor says, with the mend, and that it shows no secret. Proxies that really run: tests/e2e/test_run.py."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from understudy.cli import doctor
from understudy.cli.doctor import Weight
from understudy.cli.port_check import ProbeError
from understudy.control import registry
from understudy.control.registry import Announcement, Running

GOOD = """
upstreams: {openai: {dialect: openai, url: https://api.openai.com/v1}}
credentials: {work: {upstream: openai, secret: {env: WORK}}}
routes: {default: [work]}
"""
SECRET = "sk-work-0123456789abcdef"
CA = "-----BEGIN CERTIFICATE-----\nPROXY\n-----END CERTIFICATE-----\n"


class Patient:
    """A home folder whose proxy is said to run, and is believed."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.environ = {"HOME": str(home), "PATH": str(home / "bin"), "WORK": SECRET}
        self.pool = home / ".config" / "understudy" / "pool.yaml"
        self.pool.parent.mkdir(parents=True)
        self.write(GOOD)
        (home / "bin").mkdir()
        (home / "ca.pem").write_text(CA)
        self.announcement = Announcement(self.environ)
        monkeypatch.setattr(doctor, "probe", lambda running: None)

    def write(self, text: str) -> None:
        """(Over)write the pool file."""
        self.pool.touch(mode=0o600)
        self.pool.write_text(text)

    def run_proxy(self, pool: str = "", hosts: tuple[str, ...] = ("api.openai.com",)) -> Running:
        """A proxy runs."""
        running = Running(1, 4711, str(self.home / "ca.pem"), pool or str(self.pool), hosts)
        self.announcement.tell(running)
        return running

    def tool(self, name: str, text: str = "#!/bin/sh\n") -> str:
        """A tool is installed."""
        path = self.home / "bin" / name
        path.write_text(text)
        path.chmod(0o700)
        return name

    def lead(self, **more: str) -> None:
        """The shell leads to the proxy and trusts it."""
        bundle = str(self.home / "ca.pem")
        self.environ |= {"HTTPS_PROXY": "http://127.0.0.1:4711", "SSL_CERT_FILE": bundle, "NODE_EXTRA_CA_CERTS": bundle}
        self.environ |= more

    def said(self, *command: str, weight: Weight = Weight.PROBLEM) -> list[str]:
        """The texts of one weight."""
        findings = list(doctor.examine(None, command, self.environ))
        assert all(SECRET not in str(each) for each in findings)
        return [each.text for each in findings if each.weight is weight]


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    made = Patient(tmp_path, monkeypatch)
    yield made
    made.announcement.withdraw()


def test_nothing_is_missing(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    patient.run_proxy(hosts=more(patient))
    patient.lead()
    assert doctor.doctor(None, [patient.tool("claude")], patient.environ) == 0
    assert "ok:      this shell uses the proxy" in capsys.readouterr().out


def more(patient: Patient) -> tuple[str, ...]:
    """All hosts that a pool looks into, whatever dialects there are."""
    from understudy.config.pool_file import load
    from understudy.dialects import DIALECTS
    from understudy.requests.sites import Sites

    return Sites(load(patient.pool, patient.environ, DIALECTS)).hosts


def test_no_pool_file(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    patient.pool.unlink()
    assert doctor.doctor(None, [], patient.environ) == 1
    assert (
        f"problem: there is no pool file at {patient.pool}: write one with `understudy init`" in capsys.readouterr().out
    )


def test_problems_of_the_pool_file_and_a_missing_secret(patient: Patient) -> None:
    del patient.environ["WORK"]
    assert patient.said() == [
        f"{patient.pool}:3: the environment variable 'WORK' is not set: set it before the proxy starts, or name another"
    ]
    patient.environ["WORK"] = SECRET
    patient.write(GOOD.replace("default", "gpt-5"))
    assert any("neither `default` nor a glob" in text for text in patient.said(weight=Weight.NOTE))


def test_no_proxy_and_a_taken_port(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "PORT", port)
        notes = patient.said(weight=Weight.NOTE)
        assert any(f"port {port}, where `understudy web` and `dump` listen, is taken" in text for text in notes)
    assert any("no proxy is running" in text for text in notes)
    assert any('eval "$(understudy env)"' in text for text in notes)
    assert not any("is taken" in text for text in patient.said(weight=Weight.NOTE))
    assert patient.said() == []


def test_a_proxy_that_cannot_be_used(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    patient.run_proxy()

    def refuse(running: Running) -> None:
        raise ProbeError("it answers CONNECT with 407: it asks for a password (proxyauth)")

    monkeypatch.setattr(doctor, "probe", refuse)
    assert patient.said() == [
        "the proxy of process 1 at http://127.0.0.1:4711 cannot be used: "
        "it answers CONNECT with 407: it asks for a password (proxyauth)"
    ]


def test_a_folder_that_cannot_be_used(patient: Patient) -> None:
    registry.runtime_folder(patient.environ).chmod(0o777)
    assert any("chmod 700" in text for text in patient.said())


def test_hosts_that_are_not_intercepted(patient: Patient) -> None:
    """The pool file has changed since the proxy read it, or the proxy has another one."""
    patient.run_proxy(hosts=tuple(host for host in more(patient) if host != "api.openai.com"))
    [text] = patient.said()
    assert text.startswith("the proxy does not intercept api.openai.com: use its command `pool.reload`")
    patient.run_proxy(hosts=tuple(host for host in more(patient) if host != "*.openai.azure.com"))
    [text] = patient.said()
    assert text.startswith("the proxy does not intercept *.openai.azure.com, or is an older understudy: ")
    patient.run_proxy(pool="/other.yaml")
    assert patient.said() == []
    assert any(f"`understudy run --pool {patient.pool}`" in text for text in patient.said(weight=Weight.NOTE))


@pytest.mark.parametrize("entry", ["*", ".openai.com", "api.openai.com"])
def test_no_proxy_leads_round(patient: Patient, entry: str) -> None:
    patient.run_proxy(hosts=more(patient))
    patient.lead(NO_PROXY=f"localhost,127.0.0.1,{entry}")
    [text] = patient.said()
    assert text.startswith(f"NO_PROXY holds {entry}, which bypasses the proxy for api.")


@pytest.mark.parametrize("entry", ["mycorp.openai.azure.com", ".openai.azure.com", "api.business.githubcopilot.com"])
def test_no_proxy_leads_round_for_a_pattern(patient: Patient, entry: str) -> None:
    """The entry is named, and what it leads past."""
    patient.run_proxy(hosts=more(patient))
    patient.lead(no_proxy=f"localhost,{entry},storage.azure.com")
    [text] = patient.said()
    pattern = "api.*.githubcopilot.com" if "copilot" in entry else "*.openai.azure.com"
    assert text.startswith(f"no_proxy holds {entry}, which bypasses the proxy for {pattern}: ")


@pytest.mark.parametrize("entry", ["mycorp.openai.azure.com", ".eu-west-1.amazonaws.com"])
def test_no_proxy_leads_past_what_no_route_could_serve(patient: Patient, entry: str) -> None:
    """A pool for Anthropic alone does not look there."""
    patient.write(GOOD.replace("openai", "anthropic").replace(".com/v1", ".com"))
    patient.run_proxy(hosts=more(patient))
    patient.lead(NO_PROXY=entry)
    assert patient.said() == []


@pytest.mark.parametrize(
    ("tool", "has", "problems"),
    [
        ("gemini", "SSL_CERT_FILE", 1),
        ("gemini", "NODE_EXTRA_CA_CERTS", 0),
        ("codex", "NODE_EXTRA_CA_CERTS", 1),
        ("codex", "SSL_CERT_FILE", 0),
        ("claude", "SSL_CERT_FILE", 0),
        ("claude", "NODE_EXTRA_CA_CERTS", 0),
        ("aider", "SSL_CERT_FILE", 0),
        ("aider", "REQUESTS_CA_BUNDLE", 1),
        ("", "SSL_CERT_FILE", 1),
    ],
)
def test_a_ca_that_the_tool_does_not_trust(patient: Patient, tool: str, has: str, problems: int) -> None:
    """Each tool reads variables of its own; without a command all kinds of tools are meant."""
    patient.run_proxy(hosts=more(patient))
    patient.lead()
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
        del patient.environ[name]
    patient.environ[has] = str(patient.home / "ca.pem")
    texts = patient.said(*([patient.tool(tool)] if tool else []))
    assert len(texts) == problems
    assert all("CA of the proxy is not" in text and "understudy run" in text for text in texts)


def test_a_bundle_without_our_ca_is_not_enough(patient: Patient) -> None:
    patient.run_proxy(hosts=more(patient))
    (patient.home / "roots.pem").write_text(CA.replace("PROXY", "OTHER"))
    patient.lead(SSL_CERT_FILE=str(patient.home / "roots.pem"), NODE_EXTRA_CA_CERTS="/nowhere")
    assert any("not in SSL_CERT_FILE and NODE_EXTRA_CA_CERTS" in text for text in patient.said())


def test_what_no_variable_can_mend(patient: Patient) -> None:
    patient.tool("node", "#!/bin/sh\necho v20.20.2\n")
    patient.environ["PATH"] += ":/bin:/usr/bin"
    [text] = patient.said(patient.tool("mine", "#!/usr/bin/env node\n"))
    assert text.startswith("mine: Node.js 20.20 ignores HTTPS_PROXY")
    assert "Node.js 24" in text
    assert patient.said(patient.tool("gemini", "#!/usr/bin/env node\n")) == []  # it reads the variable itself
    [text] = patient.said(patient.tool("amp"))
    assert "on its vendor's server" in text
    assert any("ignores NO_PROXY" in text for text in patient.said(patient.tool("qwen"), weight=Weight.NOTE))
    assert patient.said("no-such-tool") == ["there is no command no-such-tool: install it, or say where it is"]


def test_a_daemon_that_was_started_without_the_proxy(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    patient.run_proxy(hosts=more(patient))
    monkeypatch.setattr("understudy.cli.known_tools.stale_processes", lambda name, url, word: [4712])
    [text] = patient.said(patient.tool("cline"))
    assert text == "cline: process 4712 was started without the proxy: end it with `kill 4712`"


def test_a_daemon_of_codex_is_known_by_its_command(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another Codex in a terminal is none: what it does is its own affair."""
    patient.run_proxy(hosts=more(patient))
    words = list[str]()

    def stale(name: str, url: str, word: str) -> list[int]:
        words.append(word)
        return []

    monkeypatch.setattr("understudy.cli.known_tools.stale_processes", stale)
    assert patient.said(patient.tool("codex")) == []
    assert words == ["app-server"]


def test_a_placeholder_for_a_key_is_said(patient: Patient) -> None:
    """A10: which variable `understudy run` sets for a tool that has no key, and that it stays here."""
    [text] = [each for each in patient.said(patient.tool("aider"), weight=Weight.NOTE) if "placeholder" in each]
    assert text.startswith("aider: it has no key: `understudy run` gives it a placeholder in OPENAI_API_KEY")
    assert "never leaves this machine" in text
    patient.environ["OPENAI_API_KEY"] = SECRET
    assert not any("placeholder" in each for each in patient.said("aider", weight=Weight.NOTE))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://llm.corp/gateway/v1", "add `intercept: [{host: llm.corp, dialect: openai, base_path: /gateway/v1}]`"),
        ("http://127.0.0.1:11434/v1", "`understudy dump --mode reverse:http://127.0.0.1:11434`"),
        ("https://api.openai.com/v1", ""),
        ("https://[", ""),
        ("nonsense", ""),
    ],
)
def test_base_urls_that_lead_elsewhere(patient: Patient, url: str, text: str) -> None:
    patient.environ["OPENAI_BASE_URL"] = url
    texts = patient.said()
    assert [text in each for each in texts] == ([True] if text else [])


def test_passwords_in_addresses_are_not_shown(patient: Patient) -> None:
    patient.environ |= {
        "HTTPS_PROXY": f"http://me:{SECRET}@corp:3128",
        "ANTHROPIC_BASE_URL": f"https://me:{SECRET}@llm.corp",
    }
    assert any("HTTPS_PROXY is corp:3128" in text for text in patient.said(weight=Weight.NOTE))
    assert any("ANTHROPIC_BASE_URL names llm.corp" in text for text in patient.said())


def test_what_the_log_tells(patient: Patient) -> None:
    line = "Client TLS handshake failed. The client does not trust the proxy's certificate for api.openai.com (x)\n"
    (registry.state_folder(patient.environ) / "run.log").write_text(line * 3)
    assert [text for text in patient.said(weight=Weight.NOTE) if "the log tells" in text] == [
        "the log tells of a tool that did not trust the CA for api.openai.com: start it with `understudy run`"
    ]


@pytest.mark.parametrize(
    "why", ["unable to get local issuer certificate", "self-signed certificate in certificate chain"]
)
def test_an_upstream_with_an_unknown_root(patient: Patient, why: str) -> None:
    """A company's gateway behind its own root: what is missing, and where it belongs."""
    line = f"1/1 work gpt-5: overloaded by builtin/fault: tls: Certificate verify failed: {why}\n"
    (registry.state_folder(patient.environ) / "run.log").write_text(line)
    (text,) = [text for text in patient.said(weight=Weight.NOTE) if "the log tells" in text]
    assert "SSL_CERT_FILE" in text
