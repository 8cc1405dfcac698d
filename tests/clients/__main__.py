"""`scripts/test --clients`: every program x every failure of the first candidate, with understudy and without.

With: `understudy run -- PROGRAM`, and a pool file over two vendors of this machine, of which the first fails. Without:
mitmproxy alone, which leads the vendors' names to the first one. With `--conversation` a program calls a tool twice,
and the first vendor fails in the second turn, in five ways; both seal their reasoning and read their own only. A cell
says `ok` and after how many seconds, and how
many model calls the first vendor saw, when the program ended well with the second vendor's answer; else `fails` with
its exit status, or `> N s` when it was still trying and was ended.

With `--nothing-left` both vendors fail alike. A cell says how long a program tries and how many calls each account
sees, without understudy and with it, and what is worse with it.

With `--drill` both vendors are well, and `understudy drill upstream first KIND` makes the first one fail: the same
table with understudy, over every kind of a drill. It needs no failing vendor, so it is what a user can do at home.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.clients.catalogue import CONVERSATIONS, KEYLESS, PROGRAMS, WITHOUT_ANSWERS, Program, environment
from tests.clients.conversation import Vendor, faults, judged
from tests.clients.install import install
from tests.clients.nothing_left import MODES, End, longest, read, wrong
from tests.clients.vendors import FAILURES, FIRST, NONE, SECOND, call_of, fails, speaks
from tests.e2e.authority import Authority
from tests.e2e.behaviours import Seen
from tests.e2e.home import UNDERSTUDY, Home
from tests.e2e.proxy import NotStartedError, Proxy, make_confdir
from tests.e2e.upstream import Upstream
from understudy.cli import tool_environment
from understudy.control.registry import Running
from understudy.drill import Kind

BOUND = 120.0
"""Seconds after which a program is ended: with understudy it needs a fraction of that, unless the machine is busy."""
LONGER = 20.0
"""How much longer than without a failure a program may try without understudy before it is ended. Seconds."""
FIRST_EVENT = 3
"""`first_event` of the pool file, in seconds, so that a silent vendor does not hold the matrix up for 45."""
REDIRECT = Path(__file__).with_name("redirect.py")


def pool_yaml(first: Upstream, second: Upstream, more: str) -> str:
    """Two candidates for every dialect, and ``more``. They are at loopback, so plain HTTP will do."""
    lines, names = ["upstreams:"], []
    for dialect, base in {"openai": "/v1", "anthropic": "", "gemini": ""}.items():
        for number, upstream in enumerate((first, second), 1):
            lines.append(f'  {dialect}-{number}: {{dialect: {dialect}, url: "{upstream.plain_url}{base}"}}')
            names.append(f"{dialect}-{number}")
    lines.append("credentials:")
    lines += [f"  {name}: {{upstream: {name}, secret: {{env: POOL_{name[-1]}}}}}" for name in names]
    limits = f"budget: {{first_event: {FIRST_EVENT}, silence: {FIRST_EVENT}}}"
    lines += ["routes:", f"  default: [{', '.join(names)}]", limits, more, ""]
    return "\n".join(lines)


@dataclass(frozen=True)
class Cell:
    """How one run of a program ended."""

    good: bool
    seconds: float
    text: str
    output: str
    tried: float = 0.0
    """Seconds from the first model call to the end."""


DRILLS = tuple(kind.value for kind in Kind if kind is not Kind.CUT)
"""The kinds of the second matrix. What is cut after its first word is no answer, with or without understudy."""


def drilled_pool_yaml(first: Upstream, second: Upstream) -> str:
    """The same vendors, each as one upstream of all dialects: a drill has one target."""
    lines = ["upstreams:"]
    for name, upstream in (("first", first), ("second", second)):
        lines.append(f'  {name}: {{url: "{upstream.plain_url}", dialects: {{openai: /v1, anthropic: "", gemini: ""}}}}')
    lines += ["credentials:", "  one: {upstream: first, secret: {env: POOL_1}}"]
    lines += ["  two: {upstream: second, secret: {env: POOL_2}}"]
    limits = f"budget: {{first_event: {FIRST_EVENT}, silence: {FIRST_EVENT}, hedge_after: {FIRST_EVENT}}}"
    return "\n".join([*lines, "routes:", "  default: [one, two]", limits, ""])


class Table:
    """What all cells need: a CA, a folder."""

    def __init__(self, folder: Path, record: Path | None) -> None:
        self.folder = folder
        self.record = record
        self.authority = Authority(folder)
        self.confdir = make_confdir(folder / "confdir")

    def conversation(self, program: Program, fault: str) -> Cell:
        """A conversation of a program whose first account fails in the second turn."""
        one, two = Vendor("one", faults(FAILURES)[fault]), Vendor("two")
        with self.stage(NONE) as (first, second, path):
            first.on(lambda seen: True, one.behave)
            second.on(lambda seen: True, two.behave)
            cell = self.run_with(program, path, first, second, BOUND, two.word)
        wrong = judged(one, two, cell.output)
        refused = len(one.refused) + len(two.refused)
        unread = f", {refused} refused" if refused else ""
        text = f"{cell.text}{f': {wrong}' if wrong else f', {one.turns} + {two.turns} turns'}{unread}"
        return Cell(cell.good and not wrong, cell.seconds, text, cell.output)

    @contextmanager
    def stage(self, failure: str) -> Iterator[tuple[Upstream, Upstream, Path]]:
        """Two vendors, the first of which fails, and a home folder."""
        with (
            Upstream(self.authority) as first,
            Upstream(self.authority) as second,
            tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as home,
        ):
            first.on(lambda seen: True, fails(FAILURES[failure]))
            second.on(lambda seen: True, speaks(SECOND))
            yield first, second, Path(home)

    def with_understudy(self, program: Program, failure: str, bound: float) -> Cell:
        """One cell of the first table. The proxy is there already, so that the seconds are the program's own."""
        with self.stage(failure) as (first, second, path):
            return self.run_with(program, path, first, second, bound, FIRST if failure == NONE else SECOND)

    def run_with(
        self, program: Program, path: Path, first: Upstream, second: Upstream, bound: float, answer: str
    ) -> Cell:
        """Run a program below `understudy run`. ``answer``: what it should say."""
        home = Home(path, self.confdir, {"POOL_1": "sk-pool-1-0123456789", "POOL_2": "sk-pool-2-0123456789"})
        home.write_pool(pool_yaml(first, second, program.pool))
        try:
            with proxy_of(home):
                command = [*UNDERSTUDY, "run", "--", *program.command]
                environ = {**home.environ, **environment(program, path)}
                return run(command, environ, path, bound, first, answer)
        finally:
            home.close()

    def in_a_drill(self, program: Program, kind: str, bound: float) -> Cell:
        """One cell of the table of drills: both vendors answer, and the drill lets the first one fail."""
        with self.stage(NONE) as (first, second, path):
            home = Home(path, self.confdir, {"POOL_1": "sk-pool-1-0123456789", "POOL_2": "sk-pool-2-0123456789"})
            home.write_pool(drilled_pool_yaml(first, second))
            try:
                with proxy_of(home):
                    if kind != NONE:
                        written = f"{kind}:1" if kind == Kind.SLOW else kind
                        begun = home.understudy("drill", "upstream", "first", written)
                        if begun.returncode:
                            return Cell(False, 0.0, "no drill", begun.stderr.decode(errors="replace"))
                    command = [*UNDERSTUDY, "run", "--", *program.command]
                    environ = {**home.environ, **environment(program, path)}
                    # What is slow is answered by the first one, late; it sees no call of any other drill.
                    cell = run(command, environ, path, bound, first, FIRST if kind in (NONE, Kind.SLOW) else SECOND)
                    told = home.understudy("drill").stdout.decode(errors="replace") if kind != NONE else ""
                    return replace(cell, output=f"{cell.output}\n{told}")
            finally:
                home.close()

    def without(self, program: Program, failure: str, bound: float) -> Cell:
        """One cell of the second table."""
        with self.stage(failure) as (first, _, path):
            return self.run_without(program, path, first, bound)

    def run_without(self, program: Program, path: Path, first: Upstream, bound: float) -> Cell:
        """Run a program through mitmproxy alone."""
        with ExitStack() as stack:
            # Lazy, for the vendors' own names lead nowhere here.
            scripts = ["-s", str(REDIRECT), "--set", "connection_strategy=lazy"]
            vendor = {"VENDOR_PORT": str(first.plain_port)}
            proxy_folder = path / "proxy"
            proxy_folder.mkdir()
            proxy = stack.enter_context(Proxy(proxy_folder, self.confdir, addon=False, extra_args=scripts, env=vendor))
            environ = environment(program, path)
            running = Running(proxy.pid, proxy.port, str(proxy.ca))
            environ = tool_environment.applied(tool_environment.variables(running, environ, proxy_folder), environ)
            cell = run(program.command, environ, path, bound, first, FIRST)
            if self.record is not None:
                write_down(self.record / f"{program.name.replace('/', '-')}.json", first.seen)
            return cell

    def nothing_left(self, program: Program, mode: str, bound: float) -> tuple[End, End]:
        """How a program gives up when all that may answer fails alike: without understudy, and with it."""
        with self.stage(NONE) as (first, _, path):
            first.on(lambda seen: True, fails(MODES[mode]))
            without = end_of(self.run_without(program, path, first, bound), first)
        with self.stage(NONE) as (first, second, path):
            for vendor in (first, second):
                vendor.on(lambda seen: True, fails(MODES[mode]))
            cell = self.run_with(program, path, first, second, longest(without, bound), "")
            return without, end_of(cell, first, second)


def end_of(cell: Cell, *vendors: Upstream) -> End:
    """How a program gave up, and what it has cost."""
    calls = tuple(sum(call_of(seen) is not None for seen in vendor.seen) for vendor in vendors)
    return End(None if cell.text.startswith(">") else cell.tried, calls, cell.output)


@contextmanager
def proxy_of(home: Home) -> Iterator[None]:
    """With a proxy of `understudy run` that stays, so that the seconds of a program are its own."""
    with home.begin(["run", "--", "cat"]) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdin.write(b"up\n")
        holder.stdin.flush()
        holder.stdout.readline()
        yield


def write_down(path: Path, requests: Sequence[Seen]) -> None:
    """Keep what a program sent, for tests/e2e/shapes; to be reduced by hand to what matters."""
    told = [
        {"method": seen.method, "path": seen.path, "headers": seen.headers, "body": seen.body.decode("latin-1")}
        for seen in requests
    ]
    path.write_text(json.dumps(told, indent=1))


def run(
    command: Sequence[str], environ: dict[str, str], home: Path, bound: float, first: Upstream, answer: str
) -> Cell:
    """Run a program to its end or to the bound, and say how that went. ``answer``: what it should say."""
    begun = time.monotonic()
    with (home / "output").open("wb") as output:
        process = subprocess.Popen(
            command, env=environ, cwd=home, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        try:
            status: int | None = process.wait(bound)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            # What it started as well: the session is its own. The proxy of `understudy run` has another one.
            kill_group(process.pid)
            process.wait()
    ended = time.monotonic()
    seconds = ended - begun
    said = (home / "output").read_text(errors="replace")
    times = [seen.time for seen in first.seen if call_of(seen) is not None]  # of the same clock
    calls = len(times)
    good = status == 0 and answer in said
    how = "ok" if good else f"> {bound:.0f} s" if status is None else f"fails ({status})"
    text = f"{how}, {calls}" if status is None else f"{how} {seconds:.0f} s, {calls}"
    return Cell(good, seconds, text, said, ended - min(times, default=begun))


def kill_group(group: int) -> None:
    """End whatever a program left in its session."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def row(
    program: Program,
    failures: Sequence[str],
    cell: Callable[[Program, str, float], Cell],
    pool: Executor,
    longer: float,
) -> list[Cell]:
    """All cells of a program: first the one without a failure, which says how long a turn takes."""

    def started(failure: str, bound: float) -> Cell:
        try:
            return cell(program, failure, bound)
        except NotStartedError:
            return Cell(False, 0.0, "no proxy", "the proxy did not start")

    usual = started(NONE, BOUND)
    bound = min(BOUND, usual.seconds + longer)
    others = pool.map(lambda failure: usual if failure == NONE else started(failure, bound), failures)
    return list(others)


def main() -> int:
    """Run the matrix, print both tables, and return 1 when a cell with understudy is not as promised."""
    parser = argparse.ArgumentParser(prog="scripts/test --clients", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="programs with this in their name")
    parser.add_argument("--nothing-left", action="store_true", help="all candidates fail alike")
    parser.add_argument("--no-keys", action="store_true", help="programs that need a key, without one")
    parser.add_argument("--bound", type=float, default=BOUND, help="seconds after which a program is ended")
    every = (*FAILURES, *DRILLS, *faults(FAILURES), *MODES)
    parser.add_argument("--failure", action="append", choices=tuple(dict.fromkeys(every)), help="these failures only")
    parser.add_argument("--drill", action="store_true", help="let a drill make the first candidate fail")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time")
    parser.add_argument("--no-install", action="store_true", help="take what is installed")
    parser.add_argument("--skip", choices=["with", "without"], help="leave one of the two tables out")
    parser.add_argument("--show", action="store_true", help="print what the programs said")
    parser.add_argument("--conversation", action="store_true", help="conversations with tool calls instead")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="keep what the programs send without understudy")
    arguments = parser.parse_args()
    missing = [] if arguments.no_install else install()
    every_program = WITHOUT_ANSWERS if arguments.nothing_left else KEYLESS if arguments.no_keys else PROGRAMS
    programs = [
        each for each in every_program if not arguments.only or any(text in each.name for text in arguments.only)
    ]
    failures = arguments.failure or ([NONE, *DRILLS] if arguments.drill else list(FAILURES))
    known = faults(FAILURES) if arguments.conversation else (NONE, *DRILLS) if arguments.drill else FAILURES
    if arguments.conversation and not arguments.failure:
        failures = list(known)
    if arguments.nothing_left:
        known = MODES
        failures = arguments.failure or list(MODES)
    if unknown := [each for each in failures if each not in known]:
        parser.error(f"not among these failures: {', '.join(unknown)}")
    bad: list[tuple[str, str]] = []
    if arguments.nothing_left:
        bad = give_up(arguments, programs, failures)
        programs = []
    if arguments.conversation:
        bad = converse(arguments, failures)
        programs = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        table = Table(Path(folder), arguments.record)
        tables = {"with": table.with_understudy, "without": table.without}
        for kind, cell in ({"with": table.in_a_drill} if arguments.drill else tables).items():
            if kind == arguments.skip or not programs:
                continue
            how = ", in a drill" if arguments.drill else ""
            print(f"\n{kind} understudy{how}: result, seconds, model calls that the first candidate saw\n", flush=True)
            print(f"| program | {' | '.join(failures)} |\n|{'---|' * (len(failures) + 1)}", flush=True)
            for program in programs:
                if not program.installed:
                    print(f"| {program.name} | {' | '.join(['not installed'] * len(failures))} |", flush=True)
                    continue
                cells = row(program, failures, cell, pool, LONGER if kind == "without" else BOUND)
                print(f"| {program.name} | {' | '.join(each.text for each in cells)} |", flush=True)
                if kind == "with":
                    bad += [
                        (program.name, failure) for failure, each in zip(failures, cells, strict=True) if not each.good
                    ]
                if arguments.show:
                    print("\n".join(each.output for each in cells), flush=True)
    for name in missing:
        print(f"not installable: {name}")
    for name, failure in bad:
        print(f"not as promised: {name} x {failure}")
    return 1 if bad or missing else 0


def give_up(arguments: argparse.Namespace, programs: Sequence[Program], modes: Sequence[str]) -> list[tuple[str, str]]:
    """Print the table of calls that nothing can answer; returns the cells that are worse than without understudy."""
    bad = list[tuple[str, str]]()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        table = Table(Path(folder), None)

        def cell(program: Program, mode: str) -> tuple[End, End] | None:
            with suppress(NotStartedError):
                return table.nothing_left(program, mode, arguments.bound)
            return None

        print("\nnothing left: seconds, model calls of each account, without understudy -> with it\n", flush=True)
        print(f"| program | {' | '.join(modes)} |\n|{'---|' * (len(modes) + 1)}", flush=True)
        said = dict[str, dict[str, list[str]]]()
        there = [program for program in programs if program.installed]
        waiting = {program.name: [pool.submit(cell, program, mode) for mode in modes] for program in there}
        for name, cells in waiting.items():
            texts = []
            for mode, ends in zip(modes, (each.result() for each in cells), strict=True):
                if ends is None:
                    texts.append("no proxy")
                    bad.append((name, mode))
                    continue
                without, with_it = ends
                found = wrong(mode, without, with_it, arguments.bound)
                texts.append(" ".join([f"{without} -> {with_it}", *(f"**{each}**" for each in found)]))
                bad += [(name, f"{mode}: {each}") for each in found]
                said.setdefault(name, {})[f"{mode}, without"] = read(without.output)
                said.setdefault(name, {})[f"{mode}, with"] = read(with_it.output)
            print(f"| {name} | {' | '.join(texts)} |", flush=True)
            if arguments.show:
                for mode, lines in said[name].items():
                    print("\n".join([f"    {mode}:", *(f"        {line}" for line in lines)]), flush=True)
    return bad


def converse(arguments: argparse.Namespace, names: Sequence[str]) -> list[tuple[str, str]]:
    """Print the table of conversations; returns the cells that are not as promised (E01 to E03)."""
    bad = list[tuple[str, str]]()
    wanted = [each for each in CONVERSATIONS if not arguments.only or any(text in each.name for text in arguments.only)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        table = Table(Path(folder), None)
        print("\nconversations: result, seconds, calls of the first account, answered turns of both\n", flush=True)
        print(f"| program | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}", flush=True)
        for program in wanted:
            if not program.installed:
                print(f"| {program.name} | {' | '.join(['not installed'] * len(names))} |", flush=True)
                continue
            cells = list(pool.map(lambda name, program=program: table.conversation(program, name), names))
            print(f"| {program.name} | {' | '.join(each.text for each in cells)} |", flush=True)
            bad += [(program.name, name) for name, each in zip(names, cells, strict=True) if not each.good]
            if arguments.show:
                print("\n".join(each.output for each in cells), flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main())
