"""`understudy run` and `env` with real processes: the tool keeps its terminal, streams, signals and exit status."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import termios
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from understudy.cli.port_check import ProbeError, probe
from understudy.cli.run import running_proxy
from understudy.control import registry
from understudy.control.registry import Announcement, Running

from .authority import Authority
from .behaviours import json_reply
from .home import UNDERSTUDY, Home
from .proxy import ADDON, ROOT, make_confdir
from .stage import CHAT, SECRETS, TOOL, refusal
from .upstream import Upstream

CALL = f"""
import json, sys, urllib.request
body = json.dumps({{"model": sys.argv[1], "messages": []}}).encode()
headers = {{"authorization": "Bearer {TOOL}", "content-type": "application/json"}}
request = urllib.request.Request("https://api.openai.com/v1/chat/completions", body, headers)
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""
"""A tool that knows nothing of proxies but what the environment says."""


POOL = {"SECRET_A": SECRETS["a"], "SECRET_B": SECRETS["b"], "SECRET_C": SECRETS["claude-a"]}


def pool(upstream: Upstream) -> str:
    """Two candidates over plain HTTP on this machine."""
    return f"""
upstreams:
  main: {{dialect: openai, url: "{upstream.plain_url}/v1"}}
  claude: {{dialect: anthropic, url: "{upstream.plain_url}"}}
credentials:
  c: {{upstream: claude, secret: {{env: SECRET_C}}}}
  a: {{upstream: main, secret: {{env: SECRET_A}}}}
  b: {{upstream: main, secret: {{env: SECRET_B}}}}
routes: {{default: [a, b, c]}}
"""


@pytest.fixture(scope="module")
def upstream_here(authority: Authority) -> Iterator[Upstream]:
    with Upstream(authority) as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, confdir: Path, upstream_here: Upstream) -> Iterator[Home]:
    """A home with a pool file, and a tool in it that keeps its proxy running for all tests here."""
    made = Home(tmp_path_factory.mktemp("home"), confdir, POOL)
    made.write_pool(pool(upstream_here))
    try:
        with made.begin(["run", "--", "cat"]) as first:
            assert first.stdin is not None and first.stdout is not None
            first.stdin.write(b"up\n")
            first.stdin.flush()
            assert first.stdout.readline() == b"up\n"
            yield made
    finally:
        made.close()


@pytest.fixture
def bare_home(tmp_path: Path, confdir: Path) -> Iterator[Home]:
    """A home where nothing runs."""
    made = Home(tmp_path, confdir, POOL)
    yield made
    made.close()


def test_a_tool_goes_through_the_pool(home: Home, upstream_here: Upstream) -> None:
    """A tool that honours the usual variables gets the second candidate's answer, and the proxy is shared."""
    upstream_here.on(SECRETS["a"], refusal(CHAT, "run-1"))
    upstream_here.on(SECRETS["b"], json_reply(200, {"answer": "from b"}))
    before = home.proxies()
    done = home.understudy("run", "--", sys.executable, "-c", CALL, "run-1")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b'{"answer": "from b"}', b"")
    assert upstream_here.credentials == [SECRETS["a"], SECRETS["b"]]
    assert home.proxies() == before
    assert len(before) == 1


@pytest.mark.parametrize("broken", [True, False])
def test_a_pool_file_with_problems_starts_no_proxy(bare_home: Home, upstream_here: Upstream, broken: bool) -> None:
    """What loads meanwhile ends without a trace: not in the log, and not among the users of a proxy."""
    bare_home.write_pool("routs: {}\n" if broken else pool(upstream_here))
    words = [] if broken else ["--pool", "missing.yaml"]
    done = bare_home.understudy("run", *words, "--", "true")
    assert (done.returncode, done.stdout) == (1, b"")
    assert (b"pool.yaml:1: " if broken else b"missing.yaml") in done.stderr
    bare_home.wait_for(lambda: not loading(bare_home))
    assert bare_home.proxies() == []
    assert bare_home.log == ""
    assert not list(bare_home.path.rglob("*.user.*"))


def loading(home: Home) -> list[str]:
    """The processes that `run` has started for a proxy in this home, by their command lines (where there is /proc)."""
    log = os.fsencode(home.path / ".local" / "state" / "understudy" / "run.log")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            words = path.read_bytes().split(b"\0")
            if log in words:
                found.append(" ".join(map(os.fsdecode, words)))
    return found


CLAUDE = f"""#!{sys.executable}
import json, os, urllib.error, urllib.request
def ask(path):
    key = "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"]
    headers = {{"authorization": key, "content-type": "application/json"}}
    body = json.dumps({{"model": "run-3", "max_tokens": 9, "messages": []}}).encode()
    request = urllib.request.Request("https://api.anthropic.com" + path, body, headers)
    try:
        return urllib.request.urlopen(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
print(os.environ["ANTHROPIC_AUTH_TOKEN"], ask("/v1/messages"), ask("/api/event_logging/v2/batch"))
"""
"""In the place of Claude Code: it does not start without a key, and makes other calls with it as well."""


def test_claude_code_needs_no_login(home: Home, upstream_here: Upstream) -> None:
    """A pool file is enough: its calls are served, and the key that it was given goes nowhere."""
    upstream_here.on(SECRETS["claude-a"], json_reply(200, {"type": "message", "content": []}))
    (home.path / "claude").write_text(CLAUDE)
    (home.path / "claude").chmod(0o700)
    done = home.understudy("run", "--", "./claude")
    assert (done.stdout, done.stderr) == (b"<understudy:none> 200 404\n", b"")
    assert not [seen for seen in upstream_here.seen if "understudy" in str(seen.headers) + seen.path]


def test_codex_in_a_terminal_needs_no_login(home: Home) -> None:
    """A10: its provider reads the placeholder from a variable; its own arguments come after that."""
    (home.path / "codex").write_text('#!/bin/sh\necho "$UNDERSTUDY_PLACEHOLDER"\nprintf "%s\\n" "$@"\n')
    (home.path / "codex").chmod(0o700)
    key, *arguments = home.understudy("run", "--", "./codex", "resume", "--last").stdout.decode().splitlines()
    assert key == "<understudy:none>"
    assert arguments[:2] == ["-c", 'model_provider="understudy"']
    assert arguments[-2:] == ["resume", "--last"]
    assert home.understudy("run", "--", "./codex", "exec", "hi").stdout == b"\nexec\nhi\n"


def test_no_secret_is_in_the_log_or_the_folder(home: Home, upstream_here: Upstream) -> None:
    """R07: neither the pool's nor the tool's, after a failover."""
    upstream_here.on(SECRETS["a"], json_reply(401, {"error": {"message": f"Incorrect API key {SECRETS['a']}"}}))
    upstream_here.on(SECRETS["b"], json_reply(200, {"answer": "from b"}))
    home.understudy("run", "--", sys.executable, "-c", CALL, "run-2")
    assert "model_unsupported" in home.log or "credential_rejected" in home.log
    read = set()
    for path in registry.runtime_folder(home.environ).iterdir():
        with contextlib.suppress(FileNotFoundError):  # the proxy takes away the notes of tools that have ended
            assert path.stat().st_mode & 0o077 == 0
            if not path.is_file():
                continue  # the socket of the commands
            content = path.read_bytes()
            assert not [secret for secret in (*SECRETS.values(), TOOL) if secret.encode() in content]
            read.add(path.name)
    assert {"run.log", f"{home.proxies()[0].pid}.proxy"} <= read


@pytest.mark.parametrize(
    ("script", "status"), [("exit 7", 7), ("exit 0", 0), ("kill -TERM $$", -15), ("kill -KILL $$", -9)]
)
def test_the_exit_status_is_the_tools(home: Home, script: str, status: int) -> None:
    """Also where a signal ended it, which a shell shows as 128 and the signal's number."""
    assert home.understudy("run", "--", "sh", "-c", script).returncode == status


def test_a_shell_sees_128_and_the_signal(home: Home) -> None:
    command = [sys.executable, "-m", "understudy.cli", "run", "--", "sh", "-c", "kill -TERM $$"]
    script = '"$@"; exit $?'
    done = subprocess.run(["sh", "-c", script, "-", *command], env=home.environ, timeout=60, check=False)
    assert done.returncode == 128 + 15


def test_streams_and_arguments_pass_untouched(home: Home) -> None:
    """Bytes in, bytes out, arguments with spaces and dashes, and not a word of ours."""
    data = bytes(range(256)) * 1000
    done = home.understudy("run", "--", "sh", "-c", 'cat; printf "%s|" "$@" >&2', "-", "a b", "--", "-x", stdin=data)
    assert (done.stdout, done.stderr, done.returncode) == (data, b"a b|--|-x|", 0)


def test_signals_reach_the_tool(home: Home) -> None:
    """What is sent to the process of `understudy run` is sent to the tool: they are one process."""
    script = "trap 'echo got USR1' USR1; trap 'echo got TERM; exit 3' TERM; echo ready $$; while :; do sleep 0.05; done"
    with home.begin(["run", "--", "sh", "-c", script]) as tool:
        assert tool.stdout is not None
        assert tool.stdout.readline() == f"ready {tool.pid}\n".encode()
        tool.send_signal(signal.SIGUSR1)
        assert tool.stdout.readline() == b"got USR1\n"
        tool.send_signal(signal.SIGTERM)
        assert tool.stdout.readline() == b"got TERM\n"
        assert tool.wait(20) == 3


def test_nothing_is_ignored_on_the_tools_behalf(home: Home) -> None:
    """Python ignores SIGPIPE for itself: a tool must not inherit that."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system does not tell which signals are ignored")
    own = subprocess.run(["grep", "SigIgn", str(status)], capture_output=True, check=True, timeout=60)
    assert home.understudy("run", "--", "grep", "SigIgn", str(status)).stdout == own.stdout


IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
TERMINAL = """
import os, signal, sys
names = {signal.SIGINT: "INT", signal.SIGWINCH: "WINCH", signal.SIGCONT: "CONT"}
signal.pthread_sigmask(signal.SIG_BLOCK, names)
print([os.isatty(n) for n in (0, 1, 2)], os.tcgetpgrp(0) == os.getpgrp() == os.getpid(), flush=True)
while True:
    print(names[signal.sigwait(names)], os.get_terminal_size().columns, flush=True)
"""


def test_the_terminal_is_the_tools(home: Home) -> None:
    """Foreground, size, Ctrl-C, stopping and going on after it are between terminal and tool."""
    terminal, inside = pty.openpty()
    run = [sys.executable, "-m", "understudy.cli", "run", "--", sys.executable, "-c", TERMINAL]
    command = [sys.executable, "-c", IN_A_TERMINAL, *run]
    environ = home.environ
    tool = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, env=environ, cwd=home.path)
    os.close(inside)
    with os.fdopen(terminal, "rb", 0) as output:
        try:
            assert output.readline().strip() == b"[True, True, True] True"
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, b"\x28\x00\x7b\x00\x00\x00\x00\x00")
            assert output.readline().strip() == b"WINCH 123"
            os.write(terminal, b"\x03")
            assert output.readline().strip().removeprefix(b"^C") == b"INT 123"
            # A session leader alone in its terminal is an orphaned group, which Ctrl-Z does not stop: so by hand.
            tool.send_signal(signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(tool.pid, os.WUNTRACED)[1])
            tool.send_signal(signal.SIGCONT)
            assert output.readline().strip() == b"CONT 123"
        finally:
            tool.kill()
            tool.wait()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["run"], 2, b"which tool?"),
        (["run", "--"], 2, b"which tool?"),
        (["run", "--", "no-such-tool"], 127, b"there is no command no-such-tool"),
        (["run", "--", "./plain"], 126, b"cannot be executed"),
        (["run", "--", "./script"], 126, b"cannot be started"),
    ],
)
def test_a_tool_that_cannot_be_started(home: Home, words: list[str], status: int, said: bytes) -> None:
    """As env(1) has it."""
    (home.path / "plain").touch(mode=0o600)
    (home.path / "script").write_text("#!/no/such/interpreter\n")
    (home.path / "script").chmod(0o700)
    done = home.understudy(*words)
    assert done.returncode == status
    assert said in done.stderr


def test_no_proxy_is_started_for_a_tool_that_is_not_there(bare_home: Home, upstream_here: Upstream) -> None:
    bare_home.write_pool(pool(upstream_here))
    assert bare_home.understudy("run", "--", "no-such-tool").returncode == 127
    assert bare_home.log == ""


def test_without_a_pool_file_it_says_what_to_do(bare_home: Home) -> None:
    done = bare_home.understudy("run", "--", "true")
    assert done.returncode == 1
    assert b"there is no pool file at " in done.stderr
    assert b"understudy init" in done.stderr
    assert bare_home.proxies() == []


def test_problems_of_the_pool_file_are_told_with_their_lines(bare_home: Home) -> None:
    bare_home.write_pool("upstreams:\n  x: {dialect: opnai, url: https://x.test}\n")
    done = bare_home.understudy("run", "--", "true")
    assert done.returncode == 1
    assert f"{bare_home.pool_path}:2: ".encode() in done.stderr


def test_a_proxy_that_does_not_start_is_told_with_its_last_words(bare_home: Home, upstream_here: Upstream) -> None:
    """Here its own configuration is broken."""
    bare_home.write_pool(pool(upstream_here))
    (bare_home.path / ".mitmproxy").unlink()
    (bare_home.path / ".mitmproxy").mkdir()
    (bare_home.path / ".mitmproxy" / "config.yaml").write_text("proxy_debug: true\n")
    done = bare_home.understudy("run", "--", "true")
    assert done.returncode == 1
    assert b"the proxy did not start:" in done.stderr
    assert b"proxy_debug prints everything" in done.stderr


def test_the_last_user_ends_the_proxy(bare_home: Home, upstream_here: Upstream) -> None:
    """The first tool may end before the second; with the second the proxy that was started ends, and leaves nothing."""
    bare_home.write_pool(pool(upstream_here))
    with bare_home.begin(["run", "--", "cat"]) as first:
        assert first.stdin is not None and first.stdout is not None
        first.stdin.write(b"up\n")
        first.stdin.flush()
        first.stdout.readline()
        [proxy] = bare_home.proxies()
        with bare_home.begin(["run", "--", "cat"]) as second:
            assert second.stdin is not None and second.stdout is not None
            second.stdin.write(b"up\n")
            second.stdin.flush()
            second.stdout.readline()
            first.kill()
            first.wait()
            probe(proxy)
            assert bare_home.proxies() == [proxy]
    bare_home.wait_ended(proxy.pid)
    folder = registry.runtime_folder(bare_home.environ)
    assert not [each.name for each in folder.iterdir() if each.suffix != ".pem" and each.name != "run.log"]


def test_the_proxy_is_not_the_tools_child(home: Home) -> None:
    """A tool that waits for its children must not find one that it did not start."""
    done = home.understudy("run", "--", sys.executable, "-c", "import os; os.waitpid(-1, 0)")
    assert b"ChildProcessError" in done.stderr


# -- who is trusted --------------------------------------------------------------------------------------------------


def test_a_port_that_somebody_else_took_over_is_not_used(home: Home, authority: Authority, tmp_path: Path) -> None:
    """Whoever listens has to show a certificate of the proxy's own CA: silence, HTTP and another CA do not do."""
    [proxy] = home.proxies()
    environ = {"HOME": str(tmp_path)}
    announcement = Announcement(environ)
    with Upstream(authority) as stranger:
        for port in (stranger.plain_port, stranger.tls_port, _free_port()):
            announcement.tell(Running(os.getpid(), port, proxy.ca))
            assert [each.port for each in registry.running_proxies(environ)] == [port]
            assert running_proxy(None, environ) is None
    announcement.tell(Running(os.getpid(), proxy.port, str(authority.path)))
    with pytest.raises(ProbeError, match="not of its own CA"):
        probe(registry.running_proxies(environ)[0])
    announcement.tell(Running(os.getpid(), proxy.port, proxy.ca))
    assert running_proxy(None, environ) is not None
    assert running_proxy(tmp_path / "another.yaml", environ) is None
    announcement.withdraw()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_hosts_outside_the_pool_are_not_decrypted(home: Home, upstream_here: Upstream, authority: Authority) -> None:
    """O06: telemetry, logins and updates go to hosts of their own, and those see their own TLS."""
    [proxy] = home.proxies()
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as connection:
        connection.sendall(f"CONNECT localhost:{upstream_here.tls_port} HTTP/1.1\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        context = ssl.create_default_context(cafile=str(authority.path))  # the proxy's CA would not do
        with context.wrap_socket(connection, server_hostname="localhost") as tls:
            tls.sendall(b"POST /telemetry HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
            assert tls.recv(100).startswith(b"HTTP/1.1 ")


# -- for a shell -----------------------------------------------------------------------------------------------------


def test_env_makes_a_shell_do_the_same(home: Home, upstream_here: Upstream) -> None:
    upstream_here.on(SECRETS["a"], json_reply(200, {"answer": "from a"}))
    upstream_here.on(SECRETS["b"], json_reply(200, {"answer": "from b"}))
    script = f'eval "$({sys.executable} -m understudy.cli env)"; exec {sys.executable} -c "$CALL" env-1'
    environ = {**home.environ, "CALL": CALL}
    with home.begin(["dump", "-p", "0"], stdout=subprocess.DEVNULL) as proxy:
        try:
            home.wait_for(lambda: any(not running.companion for running in home.proxies()))
            done = subprocess.run(["sh", "-c", script], env=environ, capture_output=True, timeout=60, check=True)
        finally:
            proxy.terminate()
    assert b'"answer"' in done.stdout
    assert all(running.companion for running in home.proxies())


def test_no_proxy_keeps_nothing_that_the_pool_looks_into(home: Home) -> None:
    """Hosts of which the pool knows only the pattern included; the doctor names such an entry."""
    kept, lost = (
        "git.corp,s3.eu-west-1.amazonaws.com",
        "api.openai.com,.openai.azure.com,api.business.githubcopilot.com",
    )
    done = home.understudy("run", "--", "sh", "-c", 'echo "$NO_PROXY $no_proxy"', extra={"NO_PROXY": f"{kept},{lost}"})
    assert done.stdout.decode().split() == [f"localhost,127.0.0.1,::1,{kept}"] * 2
    doctor = f'no_proxy="$no_proxy,mycorp.openai.azure.com" exec {sys.executable} -m understudy.cli doctor'
    said = home.understudy("run", "--", "sh", "-c", doctor)
    assert said.returncode == 1
    assert b"no_proxy holds mycorp.openai.azure.com, which bypasses the proxy for *.openai.azure.com" in said.stdout


def test_env_without_a_proxy_says_how_to_start_one(home: Home) -> None:
    """One that ends with the tool that it was started for will not do for a shell."""
    done = home.understudy("env")
    assert (done.returncode, done.stdout) == (1, b"")
    said = (
        b"the proxy that runs was started by `understudy run` and ends with its tool: start one with `understudy web`"
    )
    assert said in done.stderr


def test_the_doctor_finds_a_real_proxy(home: Home, tmp_path: Path) -> None:
    """In a tool's own environment nothing is missing; in a bare one it says how to get there."""
    inside = home.understudy("run", "--", sys.executable, "-m", "understudy.cli", "doctor", "--", "sh")
    assert inside.returncode == 0, inside.stdout.decode()
    assert b"ok:      this shell uses the proxy" in inside.stdout
    bare = home.understudy("doctor")
    assert bare.returncode == 0
    assert b"ok:      a proxy runs at " in bare.stdout
    assert b"note:    this shell does not use the proxy" in bare.stdout
    assert not [secret for secret in SECRETS.values() if secret.encode() in inside.stdout + bare.stdout]


def test_from_nothing_to_an_answer(bare_home: Home) -> None:
    """`understudy init`, then `understudy run`: what a new user does, with keys in the environment only."""
    keys = {"OPENAI_API_KEY": SECRETS["a"], "OPENAI_API_KEY_WORK": SECRETS["b"]}
    made = bare_home.understudy("init", extra=keys)
    assert made.returncode == 0
    assert b"OPENAI_API_KEY_WORK is the credential openai-work" in made.stdout
    assert bare_home.understudy("check", extra=keys).returncode == 0
    done = bare_home.understudy("run", "--", "sh", "-c", "echo $HTTPS_PROXY", extra=keys)
    assert done.stdout.startswith(b"http://127.0.0.1:")
    assert not [secret for secret in keys.values() if secret in bare_home.pool_path.read_text()]


def test_a_proxy_with_a_relative_pool_file_is_used(bare_home: Home, upstream_here: Upstream) -> None:
    """Whatever its pool file was called when it was started, it is that file; a tool's commands ask its own proxy."""
    bare_home.write_pool(pool(upstream_here))
    relative = str(bare_home.pool_path.relative_to(bare_home.path))
    with bare_home.begin(["dump", "-p", "0", "--set", f"pool_file={relative}"], stdout=subprocess.DEVNULL) as proxy:
        try:
            bare_home.wait_for(lambda: bool(bare_home.proxies()))
            [running] = bare_home.proxies()
            assert running.pool == str(bare_home.pool_path)
            with bare_home.begin(["dump", "-p", "0"], stdout=subprocess.DEVNULL) as other:
                try:
                    bare_home.wait_for(lambda: len(bare_home.proxies()) == 2)
                    script = f"echo $HTTPS_PROXY; {shlex.join([*UNDERSTUDY, 'status', '--json'])}"
                    told = bare_home.understudy("run", "--pool", relative, "--", "sh", "-c", script)
                    url, _, status = told.stdout.partition(b"\n")
                    assert url.decode() in [each.url for each in bare_home.proxies()], "none was started"
                    assert json.loads(status)["pool"] == str(bare_home.pool_path)
                    assert bare_home.understudy("status").returncode == 2, "nobody else knows which one is meant"
                finally:
                    other.terminate()
        finally:
            proxy.terminate()


def test_a_demonstration_answers_no_tool(bare_home: Home, upstream_here: Upstream) -> None:
    """It is left open, and a pool file is written: `run` starts a proxy of its own, `env` and `status` know better."""
    bare_home.extra = {**bare_home.extra, "PYTHONUNBUFFERED": "1"}
    with bare_home.begin(["dump", "-p", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as shown:
        try:
            bare_home.wait_for(lambda: bool(bare_home.proxies()))
            [demonstration] = bare_home.proxies()
            assert demonstration.demonstration
            without = bare_home.understudy("run", "--", sys.executable, "-c", CALL, "gpt-5")
            assert (without.returncode, without.stdout) == (1, b"")
            assert b"there is no pool file at " in without.stderr
            assert b"the demonstration, which answers no tool" in without.stderr
            assert b"is the demonstration, whose answers are made up" in bare_home.understudy("env").stderr
            told = bare_home.understudy("doctor").stdout
            assert b"note:    the demonstration runs at " in told
            assert b"note:    no proxy is running" in told
            bare_home.write_pool(pool(upstream_here))
            upstream_here.on(SECRETS["a"], json_reply(200, {"answer": "from a"}))
            script = (
                f"{shlex.join([sys.executable, '-c', CALL, 'gpt-5'])}; {shlex.join([*UNDERSTUDY, 'status', '--json'])}"
            )
            served = bare_home.understudy("run", "--", "sh", "-c", script)
            answer, _, status = served.stdout.partition(b"\n")
            assert (answer, served.stderr) == (b'{"answer": "from a"}', b"")
            assert json.loads(status)["pool"] == str(bare_home.pool_path)
            assert shown.stdout is not None
            line = next(line for line in shown.stdout if b"exists now" in line)
            assert f"{bare_home.pool_path} exists now, and this is still the demonstration".encode() in line
        finally:
            shown.terminate()


NO_LIBRARY = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from mitmproxy.tools.main import mitmdump
mitmdump(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("lacks", "said"), [("cachetools", "cachetools"), ("cachetools,yaml", "cachetools and PyYAML")]
)
def test_a_plain_mitmproxy_is_told_what_to_install(home: Home, lacks: str, said: str) -> None:
    """`mitmdump -s addon/understudy/main.py` where its dependencies are missing: one line, and nothing goes out."""
    program = [sys.executable, "-c", NO_LIBRARY, lacks, "-p", "0", "-s", str(ADDON)]
    done = subprocess.run(program, env=home.environ, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stdout
    [line] = done.stderr.decode().splitlines()
    assert line.startswith(f"understudy needs {said}: run `{sys.executable} -m pip install 'cachetools>=6.0'")


def test_what_the_script_asks_for_is_what_the_package_depends_on() -> None:
    """One list in two places: the script is read before anything of ours can be imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ["mitmproxy>=12.0,<13", "PyYAML>=6.0", "cachetools>=6.0"]
    source = ADDON.read_text()
    assert all(f'"{each}"' in source for each in project["dependencies"][1:])
    assert project["dependencies"][0] in source
    assert project["requires-python"] == ">=3.12"


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, confdir: Path, upstream_here: Upstream
) -> Iterator[tuple[Home, Running]]:
    """A proxy with ``proxyauth``, as a team shares one; every address of this machine stands for another machine's."""
    owner = Home(tmp_path_factory.mktemp("owner"), confdir, POOL)
    owner.write_pool(pool(upstream_here))
    words = ["dump", "-p", "0", "--set", "proxyauth=team:pass word/1"]
    with owner.begin(words, stdout=subprocess.DEVNULL) as proxy:
        try:
            owner.wait_for(lambda: bool(owner.proxies()))
            yield owner, owner.proxies()[0]
        finally:
            proxy.terminate()


@pytest.fixture
def laptop(tmp_path: Path, confdir: Path) -> Home:
    """A colleague's home: without a pool file, and with a CA of its own."""
    return Home(tmp_path / "laptop", make_confdir(tmp_path / "laptop-ca"))


def test_a_colleague_uses_the_teams_proxy(shared: tuple[Home, Running], laptop: Home, upstream_here: Upstream) -> None:
    """The first time the fingerprint is compared; after that the address is enough, and `env` and `doctor` know it."""
    owner, running = shared
    url, address = f"http://team:pass%20word%2F1@127.0.0.1:{running.port}", f"http://127.0.0.1:{running.port}"
    upstream_here.on(SECRETS["a"], json_reply(200, {"answer": "from a"}))
    told = owner.understudy("ca").stdout.decode()
    fingerprint = told.split()[-1]
    tool = ["--", sys.executable, "-c", CALL, "gpt-5"]
    first = laptop.understudy("run", "--proxy", url, *tool)
    assert first.returncode == 1
    assert f"has the SHA-256 fingerprint {fingerprint}: compare it".encode() in first.stderr
    wrong = laptop.understudy("run", "--proxy", url, "--fingerprint", "00:11", *tool)
    assert wrong.returncode == 1
    assert b"the CA has another fingerprint" in wrong.stderr
    for words in (["--fingerprint", fingerprint.lower().replace(":", "")], []):
        done = laptop.understudy("run", "--proxy", url, *words, *tool)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b'{"answer": "from a"}', b"")
    inside = laptop.understudy("run", "--proxy", url, "--", *UNDERSTUDY, "doctor", "--", "sh")
    assert (inside.returncode, b"this shell uses the proxy at " in inside.stdout) == (0, True), inside.stdout
    login = {"UNDERSTUDY_PROXY_LOGIN": "team:pass word/1"}
    lines = laptop.understudy("env", "--proxy", address, extra=login).stdout.decode()
    assert f"export HTTPS_PROXY={url}\n" in lines
    for said in (first, wrong, inside):
        assert b"pass" not in said.stdout + said.stderr, "the password"


AT_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Standard input, a terminal, becomes the one that `/dev/tty` is."""


def test_at_a_terminal_the_fingerprint_is_asked_for(
    shared: tuple[Home, Running], laptop: Home, upstream_here: Upstream
) -> None:
    """Nothing but a yes accepts the CA; what was accepted is not asked for again, and the password is not shown."""
    owner, running = shared
    upstream_here.on(SECRETS["a"], json_reply(200, {"answer": "from a"}))
    fingerprint = owner.understudy("ca").stdout.decode().split()[-1]
    url = f"http://team:pass%20word%2F1@127.0.0.1:{running.port}"
    tool = ["run", "--proxy", url, "--", sys.executable, "-c", CALL, "gpt-5"]

    def at_a_terminal(answer: bytes) -> tuple[int, bytes, str]:
        """Exit status and output of the command, and what the terminal showed before the answer."""
        ours, theirs = pty.openpty()
        command = [sys.executable, "-c", AT_A_TERMINAL, *UNDERSTUDY, *tool]
        with subprocess.Popen(
            command,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=laptop.environ,
            cwd=laptop.path,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            shown = b""
            while not shown.endswith(b"[y/N] "):
                shown += os.read(ours, 1024)
            os.write(ours, answer)
            output, _ = process.communicate(timeout=60)
        os.close(ours)
        return process.returncode, output, shown.decode()

    for answer in (b"\n", b"no\n", b"maybe yes\n"):
        status, output, shown = at_a_terminal(answer)
        assert f"has the SHA-256 fingerprint\r\n  {fingerprint}\r\n" in shown
        assert "pass" not in shown
        assert (status, b"compare it" in output) == (1, True)
    status, output, _ = at_a_terminal(b"Yes\n")
    assert (status, output.strip()) == (0, b'{"answer": "from a"}')
    again = laptop.understudy(*tool)
    assert (again.returncode, again.stdout.strip()) == (0, b'{"answer": "from a"}')


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--proxy", "http://team:wrong@127.0.0.1:{port}"], "asks for another user and password"),
        (["--proxy", "http://127.0.0.1:{port}", "--ca", "{ca}"], "it asks for another user and password (proxyauth)"),
        (["--proxy", "http://team:wrong@127.0.0.1:1"], "no proxy can be reached at http://127.0.0.1:1"),
        (["--proxy", "socks5://127.0.0.1:{port}"], "the value of --proxy is no address of an HTTP proxy"),
        (["--proxy", "http://127.0.0.1:{port}", "--ca", "/dev/null"], "there is no certificate in /dev/null"),
        (["--ca", "{ca}"], "--ca and --fingerprint are about a proxy on another machine"),
        (["--proxy", "http://127.0.0.1:{port}", "--pool", "x.yaml"], "has its own pool file and rules"),
    ],
)
def test_what_keeps_a_colleague_from_the_teams_proxy(
    shared: tuple[Home, Running], laptop: Home, words: list[str], said: str
) -> None:
    """One line with what to do, never with the password."""
    _, running = shared
    given = [word.format(port=running.port, ca=running.ca) for word in words]
    done = laptop.understudy("run", *given, "--", "true")
    assert done.returncode in (1, 2)
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("understudy run: ")
    assert said in line
    assert "wrong" not in line


def test_another_ca_at_the_same_address_is_refused(shared: tuple[Home, Running], laptop: Home) -> None:
    """What was accepted once is kept: who answers there with another CA gets nothing."""
    _, running = shared
    other = laptop.confdir / "mitmproxy-ca-cert.pem"
    url = f"http://team:pass%20word%2F1@127.0.0.1:{running.port}"
    for words in (["--ca", str(other)], []):
        done = laptop.understudy("run", "--proxy", url, *words, "--", "true")
        assert done.returncode == 1
        assert b"is not of its own CA: if its CA was made anew, remove " in done.stderr


def test_a_proxy_that_no_tool_is_led_to_is_told_with_the_reason(shared: tuple[Home, Running], laptop: Home) -> None:
    """`doctor` and `env` see what `status` sees: a proxy with a password, and one in reverse mode."""
    owner, running = shared
    said = owner.understudy("doctor").stdout.decode()
    assert (
        f"note:    a proxy runs at http://127.0.0.1:{running.port}, with {owner.pool_path}; `run` and `env` do not use"
        in said
    )
    assert f"`--proxy http://USER:PASSWORD@127.0.0.1:{running.port}`" in said
    refused = owner.understudy("env").stderr.decode()
    assert "because it asks for a user and a password (proxyauth)" in refused
    asked = owner.understudy("status")
    assert (asked.returncode, asked.stderr) == (0, b"")
    laptop.extra = {**laptop.extra, **POOL}
    laptop.write_pool(owner.pool_path.read_text())
    words = ["dump", "-p", "0", "--mode", "reverse:https://api.openai.com"]
    with laptop.begin(words, stdout=subprocess.DEVNULL) as proxy:
        try:
            laptop.wait_for(lambda: bool(laptop.proxies()))
            told = laptop.understudy("doctor").stdout
            assert b"because it is no HTTP proxy (reverse:https://api.openai.com)" in told
        finally:
            proxy.terminate()


def test_run_with_rules_uses_them(bare_home: Home, upstream_here: Upstream) -> None:
    """And is not given a proxy that was started without; the next one with the same rules shares it."""
    bare_home.write_pool(pool(upstream_here))
    folder = bare_home.path / "rules"
    (folder / "acme").mkdir(parents=True, mode=0o700)
    with (
        bare_home.begin(["run", "--", "cat"]) as plain,
        bare_home.begin(["run", "--rules", "rules", "--", "cat"]) as own,
    ):
        for each in (plain, own):
            assert each.stdin is not None and each.stdout is not None
            each.stdin.write(b"up\n")
            each.stdin.flush()
            each.stdout.readline()
        assert sorted(each.rules for each in bare_home.proxies()) == [(), (str(folder),)]
        bare_home.understudy("run", "--rules", str(folder), "--", "true")
        assert len(bare_home.proxies()) == 2


def test_a_secret_that_only_the_running_proxy_has_is_no_problem(home: Home) -> None:
    """`doctor` in a shell without the variables: the proxy was started where they are set."""
    one = home.understudy("doctor", extra={"SECRET_A": ""})
    assert (one.returncode, one.stdout.count(b"in this shell; the proxy that runs has the secret")) == (0, 1)
    all_of_them = home.understudy("doctor", extra=dict.fromkeys(POOL, ""))
    assert (all_of_them.returncode, all_of_them.stdout.count(b"; the proxy that runs has read it")) == (0, len(POOL))
