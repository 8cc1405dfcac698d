"""The words of the command ``understudy``: its sub-commands, what each takes, and which function does it.

A function is named as ``module:function`` of this package, and loaded when its command has been read: whoever asks
for the status waits for nothing that only ``check`` needs. So nothing is imported here but what reads words. Of the
sub-commands only the one that was typed gets its parser; ``--help``, ``completion`` and errors need all of them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from understudy import __version__
from understudy.cli.completion import SHELLS

LOOPBACK = "127.0.0.1"
PORT = 8080
MOST_WORKERS = 64
PROGRAMS = {"web": "mitmweb", "dump": "mitmdump"}
"""Sub-commands that start a program of mitmproxy."""
USAGE = {
    "run": "[options] [--] COMMAND [ARGUMENT ...]",
    "doctor": "[options] [[--] COMMAND]",
    "pick": "[options] ALIAS [DIALECT]",
    "suspend": "[options] WHAT [TIME]",
    "resume": "[options] WHAT | all",
    "probe": "[options] WHAT",
    "drill": "[options] [WHAT KIND [TIME] | stop]",
    "explain": "[options] ALIAS [DIALECT] | FILE [FLOW]",
}
"""What argparse cannot say about the words behind a command."""
TARGETS = "`CREDENTIAL MODEL`, `credential NAME`, `upstream NAME`"


def parser(typed: str = "") -> argparse.ArgumentParser:
    """The parser of all sub-commands; of one alone, when that one was ``typed``."""
    found = argparse.ArgumentParser(prog="understudy", description="When a model cannot go on, its understudy does.")
    found.add_argument("--version", action="version", version=f"understudy {__version__}")
    commands = found.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in [typed] if typed in COMMANDS else COMMANDS:
        text, add_words = COMMANDS[name]
        add_words(commands.add_parser(name, help=text))
    _describe(found)
    return found


def _describe(parser: argparse.ArgumentParser) -> None:
    """Let the help of each command begin with its sentence, and show its words as they are meant."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        told = {each.dest: each.help or "" for each in action._choices_actions}
        for name, command in action.choices.items():
            sentence = told.get(name, "")
            command.description = f"{sentence[:1].upper()}{sentence[1:]}." if sentence else None
            if name in USAGE and command.prog.count(" ") == 1:
                command.usage = f"{command.prog} {USAGE[name]}"
            _describe(command)


# -- the pool file, and tools ----------------------------------------------------------------------------------------


def _check(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: the one the proxy would use")
    command.add_argument(
        "--drill", action="store_true", help="which single failure leaves a route without a candidate, and what to add"
    )
    command.set_defaults(run="pool_file:check")


def _init(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: the one the proxy would use")
    command.add_argument("--add", action="store_true", help="add new keys to a pool file that is there")
    command.set_defaults(run="pool_file:init")


def _run(command: argparse.ArgumentParser) -> None:
    _which_pool_or_proxy(command)
    _elsewhere(command)
    command.add_argument(
        "--rules", action="append", default=[], type=Path, metavar="FOLDER", help="as pool_rules; may be repeated"
    )
    command.set_defaults(run="run:run_command")


def _env(command: argparse.ArgumentParser) -> None:
    _which_pool_or_proxy(command)
    _elsewhere(command)
    command.set_defaults(run="run:env_command")


def _doctor(command: argparse.ArgumentParser) -> None:
    _which_pool_or_proxy(command)
    command.set_defaults(run="doctor:doctor_command")


def _which_pool_or_proxy(command: argparse.ArgumentParser) -> None:
    command.add_argument("--pool", type=Path, metavar="FILE", help="default: the proxy that runs, else the usual file")


def _elsewhere(command: argparse.ArgumentParser) -> None:
    """A proxy on another machine."""
    command.add_argument(
        "--proxy",
        metavar="URL",
        help="a proxy on another machine: http://USER:PASSWORD@HOST:8080 (UNDERSTUDY_PROXY_LOGIN: the two)",
    )
    command.add_argument("--ca", type=Path, metavar="FILE", help="its CA certificate, as a PEM file")
    command.add_argument("--fingerprint", default="", metavar="SHA256", help="that of its CA certificate")


def _ca(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run="remote_proxy:ca_command")


# -- rules -----------------------------------------------------------------------------------------------------------


def _rules(rules: argparse.ArgumentParser) -> None:
    from understudy.model import Label  # here: no other command has to know the labels

    parts = rules.add_subparsers(title="commands", metavar="COMMAND", required=True)
    folders = argparse.ArgumentParser(add_help=False)
    folders.add_argument(
        "--rules", action="append", default=[], type=Path, metavar="FOLDER", help="as pool_rules; may be repeated"
    )
    reply = argparse.ArgumentParser(add_help=False)
    reply.add_argument(
        "file", nargs="?", metavar="FILE", help="an example, `curl -i` output, HAR, flow dump or body; default: stdin"
    )
    reply.add_argument("--status", type=int, default=400, help="the status of a body that comes without one (400)")
    reply.add_argument("--model", default="", help="the upstream model that was asked for, where the file does not say")
    reply.add_argument("--host", default="", help="the upstream's host, where the file does not say")

    command = parts.add_parser("list", parents=[folders], help="every rule with its label, in the order of asking")
    command.set_defaults(run="rules:list_rules")
    command = parts.add_parser("show", parents=[folders], help="the file of a rule")
    command.add_argument("id", metavar="ID")
    command.set_defaults(run="rules:show")
    command = parts.add_parser("test", help="try every example against its rule and against the whole set")
    command.add_argument("path", nargs="*", type=Path, metavar="PATH", help="folders or files (the shipped rules)")
    command.set_defaults(run="rules:test")
    command = parts.add_parser("judge", parents=[folders, reply], help="say what a saved reply means, and why")
    command.set_defaults(run="rules:judge")
    command = parts.add_parser("new", parents=[reply], help="write a draft of a rule from a saved reply")
    labels = [label for label in Label if label not in (Label.OK, Label.UNKNOWN)]
    command.add_argument("--label", required=True, type=Label, choices=labels, metavar="LABEL", help=", ".join(labels))
    command.add_argument("--id", required=True, metavar="VENDOR/NAME", help="such as acme/model_unsupported")
    command.add_argument("--source", default="", metavar="URL", help="where it is documented or was reported")
    command.add_argument("--folder", type=Path, help="your rule folder; without it the draft is printed")
    command.add_argument("flow", nargs="?", metavar="FLOW", help="of a dump or HAR: number or id (last that failed)")
    command.set_defaults(run="rules:new")


# -- a running proxy -------------------------------------------------------------------------------------------------


def _which_proxy(command: argparse.ArgumentParser) -> None:
    """What every command to a running proxy takes."""
    command.add_argument("--json", action="store_true", help="write the result as JSON")
    command.add_argument("--pid", type=int, metavar="PID", help="which proxy, where several are running")


def _to_proxy(command: argparse.ArgumentParser, name: str) -> None:
    """What every command has that only asks or tells a running proxy; ``name``: what it is called there."""
    _which_proxy(command)
    command.set_defaults(run="control:run", command=name)


def _status(command: argparse.ArgumentParser) -> None:
    _to_proxy(command, "status")
    command.add_argument("--watch", action="store_true", help="keep showing it, until Ctrl-C")


def _pick(command: argparse.ArgumentParser) -> None:
    _to_proxy(command, "pick")
    command.add_argument(
        "words",
        nargs="+",
        metavar="ALIAS [DIALECT] [for USER]",
        help="what the tool asks for, and which user of the proxy",
    )


def _learned(command: argparse.ArgumentParser) -> None:
    _to_proxy(command, "learned")
    command.add_argument(
        "words", nargs="*", metavar="WHAT", help="`show ID`, `forget ID`, `forget all` or `draft ID [LABEL]`"
    )


def _usage(command: argparse.ArgumentParser) -> None:
    _to_proxy(command, "usage")
    since = "the first day that counts: `today`, `7d` or a day such as `2026-11-29` (all that is kept)"
    command.add_argument("--since", default="all", metavar="WHEN", help=since)
    groups = "`candidate` (the default), `day`, `session`, or `day,candidate`"
    command.add_argument("--by", default="candidate", metavar="GROUPS", help=groups)


def _suspend(command: argparse.ArgumentParser) -> None:
    _to_proxy(command, "suspend")
    command.add_argument("words", nargs="+", metavar="WHAT [TIME]", help=f"{TARGETS}; seconds, 10m, 2h or 1d (1h)")


def _resume(command: argparse.ArgumentParser) -> None:
    _to_proxy(command, "resume")
    command.add_argument("words", nargs="+", metavar="WHAT", help=f"{TARGETS} with all behind it, or `all`")


def _probe(command: argparse.ArgumentParser) -> None:
    _to_proxy(command, "probe")
    command.add_argument("words", nargs="+", metavar="WHAT", help=TARGETS)


def _drill(command: argparse.ArgumentParser) -> None:
    _to_proxy(command, "drill")
    command.add_argument(
        "words",
        nargs="*",
        metavar="WHAT KIND [TIME]",
        help="WHAT: `CREDENTIAL MODEL`, `credential NAME`, `upstream NAME`. KIND: dead, timeout, silent, 429, 429:20, "
        "quota, model_unsupported, 401, overloaded, error-event, cut, slow, slow:5, empty. TIME: 5m if none is said, "
        "1h at most. `stop` ends it; nothing at all: how it goes",
    )
    command.add_argument("--for", dest="share", metavar="10%", help="that share of the calls only")
    command.add_argument("--session", metavar="ID", help="the calls of one session only")
    command.add_argument("--everyone", action="store_true", help="also calls of other users of this proxy")


def _reload(command: argparse.ArgumentParser) -> None:
    _to_proxy(command, "reload")


# -- saved flows -----------------------------------------------------------------------------------------------------


def _replay(command: argparse.ArgumentParser) -> None:
    _which_pool_and_rules(command)
    command.add_argument("files", nargs="+", metavar="FILE", help="a flow dump of mitmproxy or a HAR; - is stdin")
    command.add_argument("--json", action="store_true", help="one JSON object per call, and one for the sum")
    command.add_argument("--only-errors", action="store_true", help="only the calls in which an error plays a part")
    command.add_argument(
        "--drill",
        metavar="WHAT=KIND",
        help="as if this had failed all the while: 'upstream openai=dead'; WHAT and KIND as for `understudy drill`",
    )
    command.set_defaults(run="replay:replay")


def _explain(command: argparse.ArgumentParser) -> None:
    _which_pool_and_rules(command)
    _which_proxy(command)
    command.add_argument(
        "words",
        nargs="+",
        metavar="WHAT",
        help="ALIAS [DIALECT]: what a tool asks for. FILE [FLOW]: a dump or HAR (- is stdin), and a flow by "
        "its number or id",
    )
    command.set_defaults(run="replay:explain", command="explain")


def _which_pool_and_rules(command: argparse.ArgumentParser) -> None:
    command.add_argument("--pool", type=Path, metavar="FILE", help="default: the one the proxy would use")
    command.add_argument(
        "--rules", action="append", default=[], type=Path, metavar="FOLDER", help="as pool_rules; may be repeated"
    )


# -- proxies that stay -----------------------------------------------------------------------------------------------


def _serve(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=_count, default=os.cpu_count() or 1, metavar="N", help="default: one a core")
    command.add_argument("--listen-host", default=LOOPBACK, metavar="HOST", help=f"default: {LOOPBACK}")
    command.add_argument("-p", "--port", type=_port, default=PORT, help=f"default: {PORT}")
    command.add_argument(
        "--each-port",
        action="store_true",
        help="each worker has a port of its own, the first one PORT + 1: for a balancer that listens on PORT",
    )
    command.add_argument("--pool", type=Path, metavar="FILE", help="default: the usual pool file")
    command.add_argument("--status-port", type=_port, metavar="PORT", help="serve a page about all workers there")
    command.add_argument(
        "--grace", type=float, default=30.0, metavar="SECONDS", help="what calls under way get when all ends (30)"
    )
    command.add_argument(
        "--drain", type=float, default=600.0, metavar="SECONDS", help="the same when a worker is replaced (600)"
    )
    command.add_argument(
        "--haproxy", action="store_true", help="print the configuration of a HAProxy before --each-port, and end"
    )
    command.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="with --haproxy: other machines' proxies in place of this one's workers; may be repeated",
    )
    command.set_defaults(run="serve:run")


def _count(text: str) -> int:
    found = int(text)
    if not 1 <= found <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"write a number from 1 to {MOST_WORKERS}")
    return found


def _port(text: str) -> int:
    found = int(text)
    if not 0 <= found <= 65535:
        raise argparse.ArgumentTypeError("write a number from 0 to 65535")
    return found


def _service(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)
    action = actions.add_parser("install", help="write the service and start it; -- OPTIONS OF MITMDUMP")
    action.add_argument("--pool", type=Path, metavar="FILE", help="default: the usual pool file")
    action.add_argument("--workers", type=int, default=1, metavar="N", help="default: 1; more need a shared `state`")
    action.add_argument("-p", "--port", type=int, default=PORT, help=f"default: {PORT}")
    action.add_argument("--no-start", action="store_true", help="write the files only, and say how to start it")
    action.set_defaults(run="service:run", action="install")
    for name, text in (
        ("status", "whether it runs"),
        ("uninstall", "end it and remove it; the file with the secrets stays"),
    ):
        actions.add_parser(name, help=text).set_defaults(run="service:run", action=name)
    action = actions.add_parser("logs", help="what it says")
    action.add_argument("-f", "--follow", action="store_true", help="and go on with what it says next")
    action.set_defaults(run="service:run", action="logs")


def _program(_command: argparse.ArgumentParser) -> None:
    """Everything behind these is mitmproxy's to read."""


def _completion(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", choices=SHELLS)
    command.set_defaults(run="command_line:show_completion")


COMMANDS: Mapping[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "check": ("check a pool file, and show what it means", _check),
    "init": ("write a pool file from the API keys in the environment, by name only", _init),
    "run": ("start a tool that goes through the proxy: the one that runs, else one that ends with the tool", _run),
    "env": ("print what a shell has to set to go through the running proxy", _env),
    "doctor": ("say what keeps a tool from being served by the pool, and what to do", _doctor),
    "ca": ("show this user's CA certificate and its fingerprint, for colleagues", _ca),
    "rules": ("list, show, test and write rules; judge a saved reply", _rules),
    "status": ("what a running proxy has suspended, until when and why", _status),
    "pick": ("who would serve an alias now", _pick),
    "learned": ("whose fault replies were that no rule explains: list, show, forget, draft a rule", _learned),
    "usage": ("the tokens that each candidate has given: by candidate, day or session", _usage),
    "suspend": ("take a candidate, a credential or an upstream out of rotation", _suspend),
    "resume": ("put a candidate, a credential or an upstream back into rotation", _resume),
    "probe": ("let the next request find out whether something suspended works again", _probe),
    "drill": ("let a candidate, a credential or an upstream fail on purpose, for a time, and see who answers", _drill),
    "reload": ("have the proxy read its pool file again", _reload),
    "replay": ("play saved calls against the present pool file and rules, without any request", _replay),
    "explain": ("who answers for an alias in the running proxy and why; or what happened to a saved call", _explain),
    "serve": ("serve with several processes: understudy serve --workers N [-- OPTIONS OF MITMDUMP]", _serve),
    "service": ("have a proxy start with your session: install, status, logs, uninstall", _service),
    **{
        name: (f"start {program} with the addon, on loopback; takes its arguments", _program)
        for name, program in PROGRAMS.items()
    },
    "completion": ("print a script that completes these commands in a shell", _completion),
}
"""Each sub-command with its help, and what adds its words."""
