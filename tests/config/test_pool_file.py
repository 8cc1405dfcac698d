"""The pool file: every mistake is told with its line and its cure, all at once, and never with a secret."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.codec.masking import shown
from understudy.codec.yaml_nodes import LARGEST, ConfigError, Problem
from understudy.config import pool_file
from understudy.config.fields import AUTH_HEADERS
from understudy.config.pool_file import default_pool_path, lint, load, no_pool_file, parse
from understudy.dialects import DIALECTS
from understudy.model import Key, Price, Scope, keys_of
from understudy.model.pool import (
    Affinity,
    Budget,
    Choice,
    HoldUntil,
    Intercept,
    Mode,
    Override,
    Pool,
    Relatives,
    Route,
    Strategy,
    WebSocket,
    WhenSealed,
)
from understudy.requests import Sites

ENVIRON = {"WORK": "sk-work-secret-1", "TEAM": "sk-team-secret-2"}
HEAD = """\
upstreams:
  openai: {dialect: openai, url: https://api.openai.com/v1}
  anthropic: {dialect: anthropic, url: https://api.anthropic.com}
credentials:
  work: {upstream: openai, secret: {env: WORK}}
  home: {upstream: openai, secret: {env: WORK}}
  team: {upstream: anthropic, secret: {env: TEAM}}
"""


def read(text: str, path: Path = Path("/pools/pool.yaml"), environ: Mapping[str, str] = ENVIRON) -> Pool:
    return parse(text, path, environ, DIALECTS)


def warnings_of(text: str, path: Path = Path("/pools/pool.yaml")) -> list[Problem]:
    found: list[Problem] = []
    parse(text, path, ENVIRON, DIALECTS, found)
    return found


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value.problems


def problems_in(text: str) -> list[str]:
    """The problems of a text, which may have none."""
    try:
        read(text)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def only_problem(text: str) -> Problem:
    [problem] = problems_of(text)
    return problem


def routes(text: str) -> str:
    return f"{HEAD}routes:\n  {text}\n"


def test_everything_a_pool_file_can_say(tmp_path: Path) -> None:
    (tmp_path / "home.txt").write_text("sk-home-secret\n")
    (tmp_path / "home.txt").chmod(0o600)
    text = dedent("""\
        upstreams:
          openai: {dialect: openai, url: https://API.openai.com/v1/}
          lan: {dialect: openai, url: "http://127.0.0.1:11434", verify: no}
          anthropic: {dialect: anthropic, url: "https://[::1]:8443/a/b"}
        credentials:
          work: {upstream: openai, secret: {env: WORK}, headers: {OpenAI-Organization: org-1, x-number: 4}}
          home: {upstream: lan, secret: {file: home.txt}}
          team: {upstream: anthropic, secret: {env: TEAM}}
        routes:
          gpt-5:
            candidates: [work, {credential: home, model: llama3:8b, priority: 2, weight: 3}]
            strategy: weighted
            mode: observe
            hold: complete
            relatives: mixed
            sealed: bind
            affinity: no
            budget: {attempts: 2, patience: 0, silence: 300, first_output: 60, idle: 15.5}
            actions:
              model_unsupported: {retry_same: 1, seconds: 60}
              unknown: {replay: true}
          4: [work]
          no: [home]
          claude-*[1m]: [team]
          default: [work, team]
        budget: {seconds: 20.5, wait: 10}
        intercept:
          - {host: LLM.corp, dialect: openai, base_path: /gateway/v1/, port: 8443}
          - {host: plain.example, dialect: anthropic}
        replay_after_sent: false
        affinity: 600
        """)
    pool = read(text, tmp_path / "pool.yaml")
    openai, lan, anthropic = pool.upstreams.values()
    assert (openai.scheme, openai.host, openai.port, openai.base_path) == ("https", "api.openai.com", 443, "/v1")
    assert (lan.scheme, lan.port, lan.base_path, lan.verify) == ("http", 11434, "", False)
    assert (anthropic.host, anthropic.port, anthropic.base_path, anthropic.verify) == ("::1", 8443, "/a/b", True)
    work, home, team = pool.credentials.values()
    assert work.headers == (("openai-organization", "org-1"), ("x-number", "4"))
    assert [credential.secret.reveal() for credential in (work, home, team)] == [
        "sk-work-secret-1",
        "sk-home-secret",
        "sk-team-secret-2",
    ]
    assert list(pool.routes) == ["gpt-5", "4", "no", "claude-*[1m]", "default"]
    first = pool.routes["gpt-5"]
    assert first.choices == (Choice(work), Choice(home, "llama3:8b", priority=2, weight=3))
    assert (first.strategy, first.hold, first.affinity) == (Strategy.WEIGHTED, HoldUntil.COMPLETE, Affinity.NONE)
    assert (first.mode, first.relatives) == (Mode.OBSERVE, Relatives.MIXED)
    assert first.sealed is WhenSealed.BIND
    assert first.budget == Budget(
        attempts=2, seconds=20.5, wait=10, patience=0, silence=300, first_output=60, idle=15.5
    )
    assert first.actions == (
        ("model_unsupported", Override(retry_same=1, seconds=60)),
        ("unknown", Override(replay=True)),
    )
    assert pool.affinity == 600
    assert pool.routes["4"].budget == Budget(seconds=20.5, wait=10)
    assert pool.routes["default"].choices == (Choice(work), Choice(team))
    assert pool.intercept == (
        Intercept("llm.corp", "openai", "/gateway/v1", 8443),
        Intercept("plain.example", "anthropic"),
    )
    assert pool.replay_after_sent is False
    assert pool.path == str(tmp_path / "pool.yaml")


def test_what_is_left_out_has_its_default() -> None:
    pool = read(routes("gpt-5: [work]"))
    assert pool.routes["gpt-5"].budget == Budget()
    assert pool.routes["gpt-5"].strategy is Strategy.ORDERED
    assert (pool.routes["gpt-5"].hold, pool.routes["gpt-5"].affinity) == (HoldUntil.OUTPUT, Affinity.SESSION)
    assert (pool.routes["gpt-5"].mode, pool.routes["gpt-5"].relatives) == (Mode.ENFORCE, Relatives.LAST)
    assert pool.routes["gpt-5"].sealed is WhenSealed.DROP
    assert pool.routes["gpt-5"].second_opinion
    assert read(routes("gpt-5: [{credential: work}]")).routes["gpt-5"].choices == pool.routes["gpt-5"].choices
    assert pool.intercept == ()
    assert pool.replay_after_sent
    assert pool.auto_reload


@pytest.mark.parametrize("written", ["second_opinion: false", "second_opinion: no"])
def test_a_second_opinion_can_be_done_without(written: str) -> None:
    assert not read(routes(f"gpt-5: {{candidates: [work], {written}}}")).routes["gpt-5"].second_opinion


@pytest.mark.parametrize("alias", ["default", "gpt-*"])
def test_the_alias_of_a_call_is_not_the_name_of_its_route(alias: str) -> None:
    """So a candidate with that model is another one."""
    pool = read(routes(f"{alias}: [work, {{credential: work, model: {alias}}}]"))
    assert [choice.model for choice in pool.routes[alias].choices] == [None, alias]


def test_an_alias_of_yaml_is_followed() -> None:
    pool = read(routes("gpt-5: &usual [work, home]\n  gpt-6: *usual"))
    assert pool.routes["gpt-5"].choices == pool.routes["gpt-6"].choices


def test_all_problems_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = dedent("""\
        upstreams:
          openai: {dialect: openia, url: https://api.openai.com/v1}
          anthropic: {dialect: anthropic, url: ftp://x, verfy: true}
        credentials:
          team: {upstream: anthropc, secret: {env: NOT_SET}}
        routes:
          claude: [taem]
        bugdet: {}
        """)
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).splitlines() == [
        "/pools/pool.yaml:2: unknown dialect 'openia': did you mean `openai`?",
        "/pools/pool.yaml:3: not an http or https URL: write it such as https://api.example.com/v1",
        "/pools/pool.yaml:3: unknown key 'verfy': did you mean `verify`?",
        "/pools/pool.yaml:5: the environment variable 'NOT_SET' is not set: "
        "set it before the proxy starts, or name another",
        "/pools/pool.yaml:5: unknown upstream 'anthropc': did you mean `anthropic`?",
        "/pools/pool.yaml:7: unknown credential 'taem': did you mean `team`?",
        "/pools/pool.yaml:8: unknown key 'bugdet': did you mean `budget`?",
    ]


@pytest.mark.parametrize(
    ("text", "what", "write"),
    [
        ("gpt-5: []", "a route without candidates", "write a list"),
        ("gpt-5: work", "a text in place of a list", "write a list"),
        ("gpt-5:", "nothing in place of a list", "write a list"),
        ("gpt-5: {}", "the key `candidates` is missing", "add it"),
        ("'': [work]", "the name in `routes` is missing", "add it"),
        ("gpt-5: [work, home, work]", "the candidate work is written twice", "remove one"),
        ("gpt-5: [work, {credential: work, model: gpt-5}]", "the candidate work is written twice", "remove one"),
        ("gpt-5: [{model: gpt-5}]", "the key `credential` is missing", "add it"),
        ("gpt-5: [{credential: work, model: [a]}]", "a list in place of the upstream model", "add it"),
        ("gpt-5: [work, team]", "different dialects: openai (work), anthropic (team)", "only `default` may"),
        (
            "gpt-5: {candidates: [{credential: work, weight: 3}, home]}",
            "the weights of 'gpt-5' do nothing",
            "add `strategy: weighted`",
        ),
        ("gpt-5: [{credential: work, weight: 0}]", "'0' is out of bounds", "write a number of a weight from 1 to 100"),
        ("gpt-5: [{credential: work, priority: first}]", "a text in place of a number", "a priority from 1 to 100"),
        ("gpt-5: {candidates: [work], strategy: orderd}", "unknown strategy 'orderd'", "did you mean `ordered`?"),
        ("gpt-5: {candidates: [work], hold: complet}", "unknown hold 'complet'", "did you mean `complete`?"),
        ("gpt-5: {candidates: [work], mode: advice}", "unknown mode 'advice'", "did you mean `advise`?"),
        (
            "gpt-5: {candidates: [work], affinity: 3}",
            "a number in place of true or false",
            "`true`, `false`, or `user`",
        ),
        ("gpt-5: {candidates: [work], affinity: alice}", "a text in place of true or false", "or `user`"),
        ("gpt-5: {candidates: [work], who: []}", "`who` names no user", "every call may use it then"),
        ("gpt-5: [{credential: work, who: [bob, bob]}]", "the user 'bob' is written twice", "remove one of them"),
        ("gpt-5: [{credential: work, who: 'bob:pass'}]", "has a colon in the name", "without its password"),
        ("gpt-5: [{credential: work, who: bob}, {credential: work, who: bob}]", "work is written twice", "remove"),
        ("gpt-5: {candidates: [work], actions: {limited: {}}}", "unknown label 'limited'", "rate_limited"),
        (
            "gpt-5: {candidates: [work], actions: {overloaded: {retry_same: 2}}}",
            "'2' is out of bounds",
            "write a number of repeats from 0 to 1",
        ),
        ("gpt-5: {candidates: [work], budget: {attempts: 0}}", "'0' is out of bounds", "from 1 to 32"),
        ("gpt-5: {candidates: [work], budget: {attempts: 1.5}}", "1.5 is not a whole number", "whole number"),
        ("gpt-5: {candidates: [work], budget: {seconds: 0}}", "'0' is out of bounds", "from 0.01 to 3600"),
        ("gpt-5: {candidates: [work], budget: {wait: -1}}", "'-1' is not a plain decimal number", "from 0 to 3600"),
        ("gpt-5: {candidates: [work], budget: {wait: .nan}}", "'.nan' is not a plain", "from 0 to 3600"),
        ("gpt-5: {candidates: [work], budget: {wait: '3'}}", "a text in place of a number", "from 0 to 3600"),
        ("gpt-5: {candidates: [work], budget: {patience: 1:30}}", "'1:30' is not a plain", "from 0 to 60"),
        (
            "gpt-5: {candidates: [work], budget: {idle: 0}}",
            "'0' is out of bounds",
            "write a number of seconds from 0.01",
        ),
        ("gpt-5: {candidates: [work], budget: 3}", "a number in place of a mapping", "write a mapping of attempts"),
        ("a-*: [work]\n  a-**: [home]", "`a-**` is never reached: `a-*` takes all its aliases", "remove one"),
        ("a?*: [work]\n  a*?: [home]", "`a*?` is never reached: `a?*` takes all its aliases", "remove one"),
        ("a*b*: [work]\n  a***b: [home]", "`a***b` is never reached: `a*b*` takes all its aliases", "remove one"),
        ("'*': [work]\n  default: [home]", "`default` is never reached for openai: `*` takes every", "remove one"),
        ("gpt-5: [work]\n  gpt-5: [home]", "the key 'gpt-5' is written twice", "keep this one or that of line 9"),
        ("<<: {gpt-5: [work]}", "a merge key", "write the keys themselves"),
        ("[a]: [work]", "a key that is a list or a mapping", "write a text as key"),
        ("gpt-5: [!secret work]", "a YAML tag that is not supported", "write a plain value"),
        ("gpt-5: !!set {work}", "a YAML tag that is not supported", "write a plain list or mapping"),
    ],
)
def test_a_mistake_in_a_route_is_told_with_its_cure(text: str, what: str, write: str) -> None:
    problems = [problem for problem in problems_of(routes(text)) if what in problem.what]
    assert problems, problems_of(routes(text))
    assert write in problems[0].write
    assert problems[0].line == 9 + text.count("\n")


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("a-*: [work]\n  a-**: [team]", "the dialects differ"),
        ("'*': [work]\n  default: [team]", "the dialects differ"),
        ("a?*: [work]\n  a*: [home]", "the wider one is asked later"),
        ("a*: [work]\n  '*a': [home]", "neither contains the other"),
        ("a*b: [work]\n  a*: [home]", "the wider one has fewer literal characters"),
        ("'?': [work]\n  '??': [home]\n  default: [work]", "other lengths"),
    ],
)
def test_globs_that_can_be_reached_are_accepted(text: str, reached: str) -> None:
    assert read(routes(text)).routes, reached


@given(st.lists(st.text("ab*?", min_size=1, max_size=4), min_size=2, max_size=4, unique=True))
def test_a_glob_called_unreachable_is_one(patterns: list[str]) -> None:
    """P03: of all aliases up to six characters, none reaches a glob that is refused."""
    globs = [pattern for pattern in patterns if {"*", "?"} & set(pattern)]
    text = HEAD + "routes:\n" + "".join(f"  '{pattern}': [work]\n" for pattern in globs)
    refused: set[str] = set()
    try:
        read(text if globs else HEAD)
    except ConfigError as error:
        refused = {pattern for pattern in globs if any(f"`{pattern}` is never" in p.what for p in error.problems)}
        assert refused
    work = read(HEAD).credentials["work"]
    pool = Pool(routes={glob: Route(glob, (Choice(work),)) for glob in globs})
    aliases = [""]
    for alias in aliases:
        if len(alias) < 6:
            aliases += [alias + char for char in "abc"]
    reached = {route.pattern for alias in aliases if (route := pool.route(alias, "openai"))}
    assert not reached & refused
    if len(globs) <= 2:  # more of them can cover another one together; only pairs are compared
        assert reached == set(globs) - refused


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("api.openai.com/v1", "not an http or https URL"),
        ("ftp://api.openai.com", "not an http or https URL"),
        ("'https://'", "not an http or https URL"),
        ("https://user:sk-abcdef@api.openai.com", "a URL with user info"),
        ("https://api.openai.com/v1?key=sk-abcdef", "a URL with a query or fragment"),
        ("https://api.openai.com/v1#sk-abcdef", "a URL with a query or fragment"),
        ("https://api.openai.com:99999/", "not a URL"),
        ("https://api.openai.com:0/", "a URL with port 0"),
        ("'https://[::1/'", "not a URL"),
        ("https://api_!.openai.com", "not a host name"),
        ("https://m\u00fcnchen.example", "not a host name"),
        ("https://api.openai.com/a/../b", "not a base path"),
        ("https://api.openai.com//v1", "not a base path"),
        ('"https://api.openai.com/\\nv1"', "a URL has unprintable characters"),
        ("https://api.openai.com", "the calls of api.openai.com are not below this path"),
        ("https://llm.example/v1/chat/completions", "the url is that of one kind of call"),
        ("https://llm.example/responses", "the url is that of one kind of call"),
        ("4", "not an http or https URL"),
        ("[]", "a list in place of a URL"),
        ("", "a URL is missing"),
    ],
)
def test_a_bad_url_is_told_without_repeating_it(url: str, what: str) -> None:
    problem = only_problem(f"upstreams:\n  a:\n    dialect: openai\n    url: {url}\n")
    assert problem.line == 4
    assert what in problem.what
    assert "sk-abcdef" not in str(problem)


@pytest.mark.parametrize(
    ("secret", "what", "write"),
    [
        ("{command: pass show x}", "a text in place of a list", "[pass, show, claude/team]"),
        ("{command: []}", "a command without a program", "[pass, show, claude/team]"),
        ("{command: [pass, [sk-proj-0123456789abcdef]]}", "a list in place of a word of the command", "add it"),
        ("{command: [pass], env: WORK}", "unknown key 'env'", "timeout"),
        ("{command: [pass], tll: 5}", "unknown key 'tll'", "did you mean `ttl`?"),
        ("{command: [pass], ttl: 0}", "'0' is out of bounds", "seconds from 1"),
        ("{command: [pass], timeout: 1h}", "in place of a number", "seconds from 0.1 to 600"),
        ("{ttl: 5}", "exactly one source", "{command: [PROGRAM, ARGUMENT]}"),
        ("{env: NOT_SET}", "'NOT_SET' is not set", "set it"),
        ("{env: EMPTY}", "'EMPTY' is empty", "set it"),
        ("{env: TWO_LINES}", "a line break", "set it"),
        ("{file: absent}", "cannot be read (No such file or directory)", "that file"),
        ("{env: WORK, file: x}", "exactly one source", "{env: NAME}"),
        ("{envv: WORK}", "exactly one source", "{env: NAME}"),
        ("sk-proj-0123456789abcdef", "never written here", "{env: NAME}"),
        ("{sk-proj-0123456789abcdef}", "exactly one source", "{env: NAME}"),
        ("{env: sk-proj-0123456789abcdef}", "this is not the name of an environment variable", "set it"),
        ("{file: sk-proj-0123456789abcdef}", "cannot be read", "that file"),
        ("", "never written here", "{env: NAME}"),
    ],
)
def test_a_secret_that_cannot_be_had(secret: str, what: str, write: str, tmp_path: Path) -> None:
    """R07: not even a secret that was pasted in place of its name is repeated."""
    upstreams = "upstreams:\n  a: {dialect: openai, url: https://x.example}\n"
    text = f"{upstreams}credentials:\n  c:\n    upstream: a\n    secret: {secret}\n"
    with pytest.raises(ConfigError) as caught:
        read(text, tmp_path / "pool.yaml", {"EMPTY": " ", "TWO_LINES": "first-line\nsecond-line"})
    [problem] = caught.value.problems
    assert what in problem.what
    assert write in problem.write
    assert problem.line == 6
    assert "0123456789" not in str(problem)
    assert "second-line" not in str(problem)


COMMAND = (
    "upstreams:\n  a: {dialect: openai, url: https://x.example}\ncredentials:\n  c:\n    upstream: a\n    secret: "
)


def command_of(written: str, folder: Path, environ: Mapping[str, str] = ENVIRON) -> tuple[str, list[Problem]]:
    """How the command of this secret names itself, and the warnings about it."""
    found: list[Problem] = []
    pool = parse(f"{COMMAND}{written}\n", folder / "pool.yaml", environ, DIALECTS, found)
    return str(pool.credentials["c"].secret), found


def program(path: Path, mode: int = 0o755) -> Path:
    """A program that would leave a trace if it were run."""
    path.write_text(f"#!/bin/sh\ntouch {path}.was-run\n")
    path.chmod(mode)
    return path


def test_a_command_is_looked_for_and_never_run(tmp_path: Path) -> None:
    """Law 12: reading a pool file runs nothing; a program that is not there is a warning, for it may come yet."""
    helper = program(tmp_path / "helper")
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    for written, name in (
        ("{command: [helper, show, 5, no], ttl: 60, timeout: 5}", "helper show 5 no"),
        ("{command: [./helper]}", f"{tmp_path}/helper"),
        ("{command: [~/helper, ~/x]}", f"{tmp_path}/helper '~/x'"),
    ):
        described, warnings = command_of(written, tmp_path, environ)
        assert described == f"the command {shown(name)}"
        assert warnings == []
    _, [missing] = command_of("{command: [no-such-program]}", tmp_path, environ)
    assert (missing.line, missing.what) == (6, "there is no program 'no-such-program' that can be run")
    _, [missing] = command_of("{\n      command: [no-such-program]}", tmp_path, environ)
    assert missing.line == 7
    helper.chmod(0o600)
    assert len(command_of("{command: [./helper]}", tmp_path, environ)[1]) == 1, "not one that can be run"
    assert list(tmp_path.iterdir()) == [helper]


def test_a_program_that_others_can_change_is_told(tmp_path: Path) -> None:
    """Law 12: whoever can change it can have whatever it prints."""
    program(tmp_path / "helper", 0o775)
    _, [warning] = command_of("{command: [./helper]}", tmp_path)
    assert warning.what.startswith("others can change the program")
    assert "chmod go-w" in warning.write


def test_the_tools_own_takes_no_headers() -> None:
    """It goes out as the tool sent it, so headers beside it would be a mistake."""
    own = f"{HEAD}  own: {{upstream: openai, secret: client}}\n"
    assert read(own).credentials["own"].secret.is_client
    problem = only_problem(f"{HEAD}  own: {{upstream: openai, secret: client,\n    headers: {{x: y}}}}\n")
    assert (problem.line, problem.write) == (9, "remove `headers`")


def test_small_models_that_only_the_tools_own_could_serve_are_no_surprise() -> None:
    own = f"{HEAD}  own: {{upstream: openai, secret: client}}\n"
    assert not [line for line in lint(read(f"{own}routes:\n  gpt-5: [own]\n")) if "neither" in line]
    [line] = [line for line in lint(read(f"{own}routes:\n  gpt-5: [own, home]\n")) if "neither" in line]
    assert "`default: [home]`" in line


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ("{Authorization: Bearer sk-abcdef}", "the header authorization carries a secret"),
        ("{X-Api-Key: sk-abcdef}", "the header x-api-key carries a secret"),
        ("{x-goog-api-key: sk-abcdef}", "the header x-goog-api-key carries a secret"),
        ("{Cookie: sk-abcdef}", "the header cookie carries a secret"),
        ("{Host: evil.example}", "the header host belongs to the proxy"),
        ("{Transfer-Encoding: chunked}", "the header transfer-encoding belongs to the proxy"),
        ("{'a b': c}", "'a b' is not a header name"),
        ("{':path': c}", "':path' is not a header name"),
        ('{a: "sk-abcdef\\r\\nx: y"}', "the value of the header a has unprintable"),
        ('{a: "\\u0457"}', "the value of the header a has a character"),
        ("{a: [b]}", "a list in place of the value of the header a"),
        ("{a: 1, A: 2}", "the header a is written twice"),
        ("[a]", "a list in place of a mapping"),
    ],
)
def test_a_bad_header_is_told_without_repeating_its_value(headers: str, what: str) -> None:
    problem = only_problem(HEAD + f"  last: {{upstream: openai, secret: {{env: WORK}}, headers: {headers}}}\n")
    assert what in problem.what
    assert problem.line == 8
    assert "sk-abcdef" not in str(problem)


def test_every_auth_header_of_every_dialect_is_refused_in_headers() -> None:
    """R03: a header that carries a credential is filled from a secret source only."""
    for dialect in DIALECTS.values():
        assert dialect.auth_headers <= AUTH_HEADERS, dialect.name


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("{host: 'https://llm.corp', dialect: openai}", "not a host name"),
        ("{host: llm.corp, dialect: opnai}", "unknown dialect 'opnai'"),
        ("{host: llm.corp}", "the key `dialect` is missing"),
        ("{host: llm.corp, dialect: openai, base_path: v1}", "not a base path"),
        ("{host: llm.corp, dialect: openai, port: 0}", "'0' is out of bounds"),
        ("{host: 'fe80::1%eth0', dialect: openai}", "not a host name"),
        ("llm.corp", "a text in place of a mapping"),
    ],
)
def test_a_bad_intercept_entry(entry: str, what: str) -> None:
    problem = only_problem(f"{HEAD}intercept:\n  - {entry}\n")
    assert what in problem.what
    assert problem.line == 9


def test_a_repeated_intercept_entry_is_a_mistake() -> None:
    entry = "{host: llm.corp, dialect: openai}"
    assert only_problem(f"{HEAD}intercept: [{entry},\n  {entry}]\n").line == 9


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "the file is empty"),
        ("# nothing\n", 1, "the file is empty"),
        ("[]", 1, "a list in place of a mapping"),
        ("upstreams: {}\nroutes: [", 2, "not valid YAML"),
        ("upstreams:\n\ta: b\n", 2, "not valid YAML (a tab)"),
        ("upstreams: {}\n---\nroutes: {}\n", 2, "not valid YAML"),
        ("upstreams: {}\nroutes: *sk-abcdef\n", 2, "not valid YAML"),
        ("upstreams: {}\nroutes: \x00\n", 2, "not valid YAML"),
        ('a: "\\UFFFFFFFF"', 1, "not valid YAML"),
        ("[" * 50_000, 1, "values are nested too deeply"),
        ("upstreams: " + "[" * 40 + "]" * 40, 1, "values are nested too deeply"),
        ("upstreams: &a [*a]", 1, "values are nested too deeply"),
        ("#" * (1024 * 1024 + 1), 1, "the file is larger than 1048576 bytes"),
        ("\u20ac" * (512 * 1024), 1, "the file is larger than 1048576 bytes"),
    ],
)
def test_what_is_no_usable_yaml_is_told_with_its_line(text: str, line: int, what: str) -> None:
    problem = only_problem(text)
    assert what in problem.what
    assert problem.line == line
    assert "sk-abcdef" not in str(problem)


def test_aliases_cannot_stand_for_billions_of_values() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    assert any("more than 100000 values" in problem.what for problem in problems_of(bomb))


def test_clear_text_and_unverified_upstreams_earn_a_warning() -> None:
    text = dedent("""\
        upstreams:
          a: {dialect: openai, url: "http://llm.corp/v1"}
          b: {dialect: openai, url: "http://localhost:11434/v1"}
          c: {dialect: openai, url: "https://llm.corp/v1", verify: false}
        """)
    assert [(warning.line, warning.what) for warning in warnings_of(text)] == [
        (2, "the secret travels in clear"),
        (4, "the secret goes to whoever answers for this host"),
    ]


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_secret_file_that_others_can_read_earns_a_warning(tmp_path: Path, mode: int, warned: bool) -> None:
    (tmp_path / "secret").write_text("sk-in-a-file")
    (tmp_path / "secret").chmod(mode)
    text = f"{HEAD}  last: {{upstream: openai, secret: {{file: secret}}}}\n"
    warnings = warnings_of(text, tmp_path / "pool.yaml")
    assert [(warning.line, "chmod 600" in warning.write) for warning in warnings] == [(8, True)] * warned
    assert "sk-in-a-file" not in str(warnings)


def test_a_secret_file_below_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sk-in-a-file")
    text = f"{HEAD}  last: {{upstream: openai, secret: {{file: ~/secret}}}}\n"
    pool = read(text, Path("/pools/pool.yaml"), {**ENVIRON, "HOME": str(tmp_path)})
    assert pool.credentials["last"].secret.reveal() == "sk-in-a-file"


def test_a_secret_file_without_a_folder_is_beside_the_pool_file(tmp_path: Path) -> None:
    """Not in the home folder, and not in the working directory."""
    (tmp_path / "secret").write_text("sk-in-a-file")
    text = f"{HEAD}  last: {{upstream: openai, secret: {{file: secret}}}}\n"
    pool = read(text, tmp_path / "pool.yaml", {**ENVIRON, "HOME": "/home/ann"})
    assert pool.credentials["last"].secret.reveal() == "sk-in-a-file"


def test_lint_tells_what_will_surprise() -> None:
    text = routes("gpt-5: [work]").replace(
        "credentials:", "  spare: {dialect: gemini, url: https://g.example}\ncredentials:"
    )
    assert [line.partition(":")[0] for line in lint(read(text))] == [
        "the routes for the dialect openai have neither `default` nor a glob",
        "the credential home is in no route",
        "the credential team is in no route",
        "the upstream spare has no credential",
    ]
    assert lint(read(routes("default: [work, home, team]"))) == []
    assert lint(read(routes("gpt-*: [work, home]\n  default: [team]"))) == []
    assert lint(read(routes("gpt-5: [work, home]\n  default: [team, work]"))) == []
    assert "no routes" in lint(read(HEAD))[0]


# Where the file is, and who may have written it.


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "understudy"
    folder.mkdir(mode=0o700)
    path = folder / "pool.yaml"
    path.write_text(routes("default: [work, home, team]"))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CONFIG_HOME": "/conf", "HOME": "/home/ann"}, "/conf/understudy/pool.yaml"),
        ({"HOME": "/home/ann"}, "/home/ann/.config/understudy/pool.yaml"),
        ({"XDG_CONFIG_HOME": "", "HOME": "/home/ann"}, "/home/ann/.config/understudy/pool.yaml"),
        ({"XDG_CONFIG_HOME": ".", "HOME": "/home/ann"}, "/home/ann/.config/understudy/pool.yaml"),
    ],
)
def test_the_default_place_is_in_the_users_configuration(environ: dict[str, str], expected: str) -> None:
    assert default_pool_path(environ) == Path(expected)


def test_the_default_place_is_never_the_working_directory(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O09: a pool file in the working directory is not picked up, whatever the environment says."""
    monkeypatch.chdir(private.parent.parent)
    for environ in ({}, {"HOME": "."}, {"HOME": ""}, {"XDG_CONFIG_HOME": "."}, {"XDG_CONFIG_HOME": "understudy"}):
        place = default_pool_path(environ)
        assert place.is_absolute()
        assert private.parent.parent not in place.parents
    monkeypatch.setenv("HOME", ".")
    with pytest.raises(ConfigError, match=r"^pool.yaml:1: .*set HOME"):
        default_pool_path({})


def test_a_private_file_is_loaded(private: Path) -> None:
    assert list(load(private, ENVIRON, DIALECTS).routes) == ["default"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(private: Path, mode: int) -> None:
    """O09: one that others can write is refused."""
    private.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load(private, ENVIRON, DIALECTS)
    assert str(caught.value) == f"{private}:1: this file can be written by others: run `chmod go-w {private}`"


def test_what_is_no_readable_file_is_refused(private: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "pipe", tmp_path / "loop", tmp_path / "nul\0byte"):
        with pytest.raises(ConfigError) as caught:
            load(path, ENVIRON, DIALECTS)
        assert len(caught.value.problems) == 1
    private.write_bytes(b"\nupstreams: {}\nroutes: \xff\n")
    with pytest.raises(ConfigError, match=r"pool.yaml:3: this is not UTF-8: save"):
        load(private, ENVIRON, DIALECTS)
    private.write_bytes(b"upstreams: {}".ljust(LARGEST + 1, b"\n"))
    with pytest.raises(ConfigError, match=f"pool.yaml:1: the file is larger than {LARGEST} bytes"):
        load(private, ENVIRON, DIALECTS)


def test_a_file_that_is_gone_between_two_looks_is_told(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_file, "check_file_is_private", Path.unlink)
    with pytest.raises(ConfigError, match=r"pool.yaml:1: this file cannot be read \(No such file or directory\)"):
        load(private, ENVIRON, DIALECTS)


@pytest.mark.parametrize(("mode", "taken"), [(0o600, True), (0o666, False)])
def test_o09_a_state_file_that_others_can_write_is_refused(private: Path, mode: int, taken: bool) -> None:
    """O09, law 12: it says who is out of rotation."""
    state = private.with_name("state.json")
    state.touch()
    state.chmod(mode)
    private.write_text(f"{HEAD}state: {{file: {state}}}\n")
    if taken:
        assert load(private, ENVIRON, DIALECTS).state == str(state)
    else:
        with pytest.raises(ConfigError, match=re.escape(f"{state}:1: this file can be written by others")):
            load(private, ENVIRON, DIALECTS)


def test_a_pool_file_that_is_missing_is_one_to_write() -> None:
    """In the usual place without an argument."""
    place = Path("/conf/a b.yaml")
    assert no_pool_file(place, None).endswith("at /conf/a b.yaml: write one with `understudy init`")
    assert no_pool_file(place, place).endswith("at /conf/a b.yaml: write one with `understudy init '/conf/a b.yaml'`")


def test_a_byte_order_mark_is_no_mistake(private: Path) -> None:
    private.write_bytes(b"\xef\xbb\xbf" + private.read_bytes())
    assert load(private, ENVIRON, DIALECTS).routes


# Hostile input.


def one_outcome(text: str) -> None:
    """A pool, or a ConfigError that reads as promised; nothing else."""
    told = ""
    try:
        pool = read(text)
        told = repr(pool) + "".join(lint(pool))
    except ConfigError as error:
        told = str(error)
        unlike = [line for line in told.split("\n") if not re.fullmatch(r"/pools/pool\.yaml:[1-9][0-9]*: .+: .+", line)]
        if unlike:
            raise AssertionError(unlike) from error
    assert not any(secret in told for secret in ENVIRON.values())


@settings(deadline=None)
@given(st.text() | st.text("{}[]:,-&*!|>'\"%@`#?<~ \n\tab0\\u", max_size=60))
def test_arbitrary_text_is_a_pool_or_a_config_error(text: str) -> None:
    one_outcome(text)


SECTIONS = ["upstreams", "credentials", "routes", "budget", "intercept", "replay_after_sent"]
KEYS = ["dialect", "url", "verify", "upstream", "secret", "headers", "env", "file", "command", "candidates", "strategy"]
MORE_KEYS = ["hold", "model", "credential", "attempts", "seconds", "wait", "host", "base_path", "port", "default", "*"]
VALUES = [
    "openai",
    "work",
    "WORK",
    "client",
    "ordered",
    "https://api.openai.com/v1",
    "4",
    "~",
    "../x",
    "/dev/zero",
    "/etc",
]
WORDS = st.sampled_from([*SECTIONS, *KEYS, *MORE_KEYS, *VALUES, "gpt-*", "true", "~root"])
SCALARS = WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=8)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | SCALARS, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(WORDS, TREES, max_size=4))
def test_arbitrary_documents_are_a_pool_or_a_config_error(document: object) -> None:
    one_outcome(yaml.safe_dump(document))


@settings(deadline=None)
@given(st.data())
def test_a_good_file_with_one_subtree_replaced(data: st.DataObject) -> None:
    """Reaches deeper than arbitrary documents do: everything else in the file is right."""
    document = yaml.safe_load(routes("gpt-5: {candidates: [work, {credential: home, model: m}], budget: {wait: 1}}"))
    node = document
    while True:
        key = data.draw(st.sampled_from(range(len(node)) if isinstance(node, list) else sorted(node)))
        if not isinstance(node[key], dict | list) or data.draw(st.booleans()):
            node[key] = data.draw(TREES)
            break
        node = node[key]
    one_outcome(yaml.safe_dump(document))


# -- dialects that are relatives ---------------------------------------------------------------------------------

AZURE = """\
upstreams:
  openai: {dialect: openai, url: https://api.openai.com/v1}
  azure: {dialect: azure-openai, url: "https://res.openai.azure.com%s"}
credentials:
  work: {upstream: openai, secret: {env: WORK}}
  blue: {upstream: azure, secret: {env: TEAM}}
routes:
  gpt-5: [work, {credential: blue, model: dep}]
"""


def test_a_route_may_hold_relatives() -> None:
    """Candidates of relatives are no mixture: their bodies say the same."""
    pool = read(AZURE % "/openai/v1")
    for dialect in ("openai", "azure-openai"):
        route = pool.route("gpt-5", dialect)
        assert route is not None
        assert [str(each) for each in route.candidates("gpt-5", dialect)] == ["work gpt-5", "blue dep"]
    assert pool.upstreams["azure"].api_version == ""
    dated = AZURE.replace('azure.com%s"', 'azure.com/openai", api_version: 2024-10-21')
    assert read(dated).upstreams["azure"].api_version == "2024-10-21"


@pytest.mark.parametrize(
    ("text", "line", "what", "write"),
    [
        (AZURE % "/openai", 3, "an azure-openai upstream has no API version", "a url that ends in /openai/v1"),
        (AZURE % '/openai/v1", api_version: "x', 3, "the v1 path takes no `api_version`", "remove it"),
        (AZURE % '", api_version: "a/b', 3, "the API version 'a/b' has characters", "use only"),
        (AZURE.replace("com/v1}", "com/v1, api_version: x}") % "/v1", 2, "knows no `api_version`", "remove it"),
    ],
)
def test_what_an_upstream_lacks(text: str, line: int, what: str, write: str) -> None:
    problem = next(each for each in problems_of(text) if what in each.what)
    assert problem.line == line and write in problem.write


GOOGLE = "upstreams: {v: {dialect: %s, url: https://us-central1-aiplatform.googleapis.com%s}}"


@pytest.mark.parametrize("dialect", ["vertex", "anthropic-vertex"])
@pytest.mark.parametrize(
    ("base_path", "well"),
    [
        ("/v1/projects/p/locations/us-central1", True),
        ("/gateway/v1beta1/projects/p/locations/global/", True),
        ("/v1", True),
        ("", False),
        ("/v1/projects/p", False),
        ("/v1/projects/p/locations/l/publishers/google", False),
    ],
)
def test_an_upstream_on_vertex_names_its_project(dialect: str, base_path: str, well: bool) -> None:
    text = GOOGLE % (dialect, base_path)
    if well:
        assert read(text).upstreams["v"].base_path == base_path.rstrip("/")
    else:
        assert "write `url: https://LOCATION-aiplatform" in only_problem(text).write


def test_relatives_get_one_warning_between_them() -> None:
    surprises = [each for each in lint(read(AZURE % "/openai/v1")) if "neither `default`" in each]
    assert len(surprises) == 1 and "dialect azure-openai" in surprises[0]


def test_a_glob_hides_a_relative() -> None:
    text = AZURE % "/openai/v1" + "  a-*: [work]\n  a-**: [blue]\n"
    assert "`a-**` is never reached" in only_problem(text).what


def test_a_default_route_that_only_relatives_would_reach_is_told() -> None:
    """With the dialect of the calls that do not come to it."""
    text = HEAD.replace("credentials:\n", "  rock: {dialect: bedrock, url: https://bedrock.example}\ncredentials:\n")
    text += "  rock: {upstream: rock, secret: {env: WORK}}\nroutes:\n  '*': [team]\n  default: [rock]\n"
    assert only_problem(text).what == "`default` is never reached for anthropic: `*` takes every alias"


def test_restore_alias_is_off_unless_said() -> None:
    pool = read(routes("gpt-5: {candidates: [work], restore_alias: true}\n  gpt-4: [work]"))
    assert pool.routes["gpt-5"].restore_alias and not pool.routes["gpt-4"].restore_alias
    assert "in place of true or false" in only_problem(routes("a: {candidates: [work], restore_alias: 1}")).what


def test_lists_of_models() -> None:
    assert not read(HEAD).unite_models and not read(HEAD + "models: pass\n").unite_models
    assert read(HEAD + "models: union\n").unite_models
    assert only_problem(HEAD + "models: all\n").write == "write `union`, or `pass` to leave them as they are"


def test_h07_a_header_of_a_credential_can_be_a_secret(tmp_path: Path) -> None:
    """H07: its value is named, and shown by nothing but ``reveal``; a plain one beside it stays as it is."""
    (tmp_path / "key").write_text("sk-header-0123456789")
    (tmp_path / "key").chmod(0o600)
    headers = f"{{x-gateway: {{env: TEAM}}, x-second: {{file: {tmp_path}/key}}, x-team: blue}}"
    line = f"  extra: {{upstream: openai, secret: {{env: WORK}}, headers: {headers}}}\n"
    extra = read(HEAD + line).credentials["extra"]
    assert extra.headers == (("x-team", "blue"),)
    assert [(name, each.reveal()) for name, each in extra.secret_headers] == [
        ("x-gateway", ENVIRON["TEAM"]),
        ("x-second", "sk-header-0123456789"),
    ]
    assert ENVIRON["TEAM"] not in repr(extra)
    assert "sk-header-0123456789" not in repr(extra)


def test_h07_a_header_whose_secret_is_missing_puts_its_credential_out_of_use() -> None:
    """H07: as a missing ``secret`` does; the rest of the file works."""
    line = "  extra: {upstream: openai, secret: {env: WORK}, headers: {x-gateway: {env: NOT_THERE}}}\n"
    assert "NOT_THERE" in read(HEAD + line).credentials["extra"].out_of_use
    [warning] = warnings_of(HEAD + line)
    assert warning.line == 8
    assert "'NOT_THERE' is not set, so the credential extra is out of use" in warning.what
    assert not read(HEAD + line).credentials["work"].out_of_use


def test_h07_a_header_has_one_source_and_names_no_command() -> None:
    """H07: `env` or `file`; a mistake does not repeat what stands there."""
    line = "  extra: {{upstream: openai, secret: {{env: WORK}}, headers: {{x-gateway: {}}}}}\n"
    for written in ("{env: WORK, file: x}", "{command: [sk-pasted-0123456789]}"):
        problem = only_problem(HEAD + line.format(written))
        assert problem.line == 8
        assert "sk-pasted" not in str(problem)


def test_h07_the_programs_of_a_pool_do_not_see_its_other_secrets() -> None:
    """H07: also those that are named behind the command."""
    lines = "  first: {upstream: openai, secret: {command: [sh]}}\n  last: {upstream: openai, secret: {env: LAST}}\n"
    pool = parse(HEAD + lines, Path("/pools/pool.yaml"), {**ENVIRON, "LAST": "sk-last-0123456789"}, DIALECTS, [])
    assert pool.credentials["first"].secret.hidden == {"WORK", "TEAM", "LAST"}  # type: ignore[attr-defined]


def test_h07_the_programs_of_a_pool_with_aws_keys_do_not_see_those_of_the_environment() -> None:
    """H07: botocore reads them there for some profiles; where the pool has no such keys, a program may need them."""
    lines = (
        "  first: {upstream: openai, secret: {command: [sh]}}\n"
        "  last: {upstream: rock, secret: {aws: {access_key_id: {env: LAST}, secret_access_key: {env: LAST}}}}\n"
    )
    rock = "  rock: {dialect: bedrock, url: https://bedrock-runtime.us-east-1.amazonaws.com}\n"
    environ = {**ENVIRON, "LAST": "sk-last-0123456789"}
    text = HEAD.replace("credentials:\n", f"{rock}credentials:\n") + lines
    pool = parse(text, Path("/pools/pool.yaml"), environ, DIALECTS, [])
    hidden = pool.credentials["first"].secret.hidden  # type: ignore[attr-defined]
    assert hidden >= {"WORK", "LAST", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    assert not hidden & {"AWS_PROFILE", "AWS_REGION", "AWS_CONFIG_FILE"}


# -- one gateway in several dialects, rule folders -------------------------------------------------------------------

GATEWAY = """
upstreams:
  gw: {dialects: {anthropic: "", openai: /v1}, url: https://llm.corp/gateway}
credentials:
  corp: {upstream: gw, secret: {env: CORP}}
routes: {default: [corp], gpt-5: [{credential: corp, model: big}]}
"""


def test_one_secret_serves_two_dialects_of_one_gateway() -> None:
    """Under one name, so that what concerns the account is suspended for both."""
    pool = parse(GATEWAY, Path("pool.yaml"), {"CORP": "sk-corp-0123456789"}, DIALECTS)
    found = {}
    for dialect in ("anthropic", "openai"):
        route = pool.route("claude-x", dialect)
        assert route is not None
        [candidate] = route.candidates("claude-x", dialect)
        found[dialect] = (candidate.upstream.dialect, candidate.upstream.url)
        assert (candidate.credential.name, candidate.upstream.name) == ("corp", "gw")
    assert found == {
        "anthropic": ("anthropic", "https://llm.corp:443/gateway"),
        "openai": ("openai", "https://llm.corp:443/gateway/v1"),
    }
    assert keys_of(candidate)[1:] == (Key(Scope.CREDENTIAL, "corp"), Key(Scope.UPSTREAM, "gw"))
    sites = Sites(pool)
    for path, dialect in (("/gateway/v1/messages", "anthropic"), ("/gateway/v1/chat/completions", "openai")):
        recognised = sites.recognise("llm.corp", 443, "POST", path)
        assert recognised is not None
        assert recognised.dialect.name == dialect


@pytest.mark.parametrize(
    ("upstream", "problem"),
    [
        ("{dialects: {opnai: /v1}, url: https://llm.corp}", "unknown dialect 'opnai'"),
        ("{dialects: {}, url: https://llm.corp}", "a gateway without dialects"),
        ("{dialects: openai, url: https://llm.corp}", "a text in place of a mapping"),
        ("{dialects: {openai: v1}, url: https://llm.corp}", "not a base path"),
        ("{dialects: {openai: /v1/chat/completions}, url: https://llm.corp}", "that of one kind of call"),
        ("{dialects: {openai: /v1}, dialect: openai, url: https://llm.corp}", "unknown key 'dialects'"),
    ],
)
def test_what_is_wrong_with_a_gateway(upstream: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"upstreams: {{gw: {upstream}}}\n", Path("pool.yaml"), {}, DIALECTS)
    assert problem in str(caught.value)


@pytest.mark.parametrize("word", [*WebSocket])
def test_e07_what_happens_to_websockets(word: WebSocket) -> None:
    """E07: `websocket` is a word of the pool file; without it the tool decides."""
    assert read(HEAD).websocket is WebSocket.AUTO
    assert read(f"{HEAD}websocket: {word}\n").websocket is word
    with pytest.raises(ConfigError) as caught:
        read(f"{HEAD}websocket: {word}d\n")
    assert "unknown websocket" in str(caught.value)


def test_rule_folders_are_relative_to_the_file_and_have_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    pool = parse("rules: [mine]\nauto_reload: false\n", tmp_path / "pool.yaml", {}, DIALECTS)
    assert (pool.rules, pool.auto_reload) == ((str(tmp_path / "mine"),), False)
    with pytest.raises(ConfigError) as caught:
        parse("rules: [mine, mine, other]\n", tmp_path / "pool.yaml", {}, DIALECTS)
    assert "named twice" in str(caught.value)
    assert "there is no folder 'other'" in str(caught.value)


@pytest.mark.parametrize(
    ("intercept", "where", "why"),
    [
        ("{host: localhost, dialect: openai, port: 4000}", "localhost:4000", "because it is on this machine"),
        ("{host: localhost, dialect: openai}", "localhost", "because it is on this machine"),
        ("{host: llm.corp, dialect: openai, port: 80}", "llm.corp:80", "because it is plain HTTP"),
    ],
)
def test_hosts_that_run_cannot_lead_to_the_proxy_are_told(intercept: str, where: str, why: str) -> None:
    pool = parse(f"intercept: [{intercept}]\n", Path("pool.yaml"), {}, DIALECTS)
    assert [each for each in lint(pool) if f"call {where} past the proxy, {why}: set its base URL" in each]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (
            "upstreams:\n  a: {dialect: openai, url: https://x\ncredentials:\n",
            2,
            "a `{` is not closed): add the missing",
        ),
        ("routes:\n  a: [x\n  b: [y]\n", 2, "a `[` is not closed): add the missing"),
        ("upstreams:\n  a: {dialect: openai}}\n", 2, "a `}` too many): remove it"),
        ("routes:\n  *: [a]\n", 2, 'begins with `*` or `&`): put it in quotes, as in `"*-mini": [work]`'),
        ("routes:\n  *-mini: [a]\n", 2, 'begins with `*`): put it in quotes, as in `"*-mini": [work]`'),
        ("state: {file: 'x}\n", 1, "a quotation mark is not closed): close it on this line"),
        ("state: file: x\n", 1, "a second colon on this line): put the value in quotes"),
        ("state: @x\n", 1, "a character of YAML's own): put it in quotes"),
        ("routes:\n  a: [b]\n c: [d]\n", 3, "indented differently from those before it): indent it like"),
        ("models:\n  gpt-5: [a]\n", 2, "`models` says what happens to lists of models: write `routes:` in its place"),
    ],
)
def test_common_slips_of_the_pen_have_a_message_of_ours(text: str, line: int, problem: str) -> None:
    """With the line where it can be mended, and without a word of the parser's."""
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("pool.yaml"), {}, DIALECTS)
    [said] = [str(each) for each in caught.value.problems if problem in str(each)]
    assert said.startswith(f"pool.yaml:{line}: ")


def test_what_will_surprise_is_told(tmp_path: Path) -> None:
    """A base URL without /v1, and a route named after the models of a vendor whose tools it does not serve."""
    told = lint(read(HEAD + "  claude-*: [work]\n".join(["routes:\n", "  default: [work, home, team]\n"])))
    assert any(
        "the route claude-* serves tools that speak openai, while the tools of that vendor speak" in e for e in told
    )
    bare = HEAD.replace("https://api.openai.com/v1", "https://llm.corp")
    [said] = lint(read(f"{bare}routes: {{default: [work, home, team]}}\n"))
    assert "the upstream openai has no path" in said
    assert said.endswith("write https://llm.corp/v1")


def test_q03_prices_stand_beside_an_upstream() -> None:
    """Q03: of a million tokens, by model; the most specific glob wins, and a gateway has them for all its dialects."""
    priced = HEAD.replace(
        "https://api.openai.com/v1}",
        "https://api.openai.com/v1, prices: {'*': {input: 1, output: 2}, gpt-5*: {input: 3, cached: 0.5, output: 4},"
        " gpt-5: {input: 5, output: 6, written: 7}}}",
    )
    upstream = read(f"{priced}routes: {{default: [work, team]}}\n").upstreams["openai"]
    assert upstream.price("gpt-5") == Price(5, 6, None, 7)
    assert upstream.price("gpt-5-mini") == Price(3, 4, 0.5)
    assert upstream.price("o3") == Price(1, 2)
    assert read(f"{HEAD}routes: {{default: [work]}}\n").upstreams["openai"].price("o3") is None
    gateway = (
        "upstreams: {g: {dialects: {openai: /v1, anthropic: ''}, url: https://g.example, prices: {'*': {input: 1, "
    )
    gateway += "output: 2}}}}\ncredentials: {k: {upstream: g, secret: {env: WORK}}}\nroutes: {default: [k]}\n"
    assert read(gateway).upstreams["g"].price("any") == Price(1, 2)


@pytest.mark.parametrize(
    ("prices", "what"),
    [
        ("5", "a number in place of a mapping"),
        ("{gpt-5: 5}", "a number in place of a mapping"),
        ("{gpt-5: {input: 1}}", "`output` is missing"),
        ("{gpt-5: {input: 1, output: -2}}", "not a plain decimal number"),
        ("{gpt-5: {input: 1, output: 2, per: 1000}}", "unknown key 'per'"),
    ],
)
def test_q03_prices_that_are_none(prices: str, what: str) -> None:
    """Q03: with the line, and what to write."""
    text = HEAD.replace("https://api.openai.com/v1}", f"https://api.openai.com/v1, prices: {prices}}}")
    problems = problems_of(f"{text}routes: {{default: [work]}}\n")
    assert [problem.line for problem in problems] == [2]
    assert what in problems[0].what, problems[0]


def test_q03_a_price_makes_no_other_candidate() -> None:
    """Q03: sessions and suspensions stay when only a price has changed."""
    plain = read(f"{HEAD}routes: {{gpt-5: [work]}}\n")
    priced = HEAD.replace(
        "https://api.openai.com/v1}", "https://api.openai.com/v1, prices: {'*': {input: 1, output: 2}}}"
    )
    assert plain.credentials["work"] == read(f"{priced}routes: {{gpt-5: [work]}}\n").credentials["work"]


def test_p05_who_may_use_what() -> None:
    """P05: on a credential, a route and a candidate; one name, or a list of names and globs."""
    pool = read(
        routes("gpt-5: {who: [alice, 'ci-*'], affinity: user, candidates: [{credential: work, who: bob}, work]}")
    )
    route = pool.routes["gpt-5"]
    assert (route.who, route.affinity) == (("alice", "ci-*"), Affinity.USER)
    assert [choice.who for choice in route.choices] == [("bob",), ()]
    assert [route.whose(choice) for choice in route.choices] == ["alice, ci-* and bob", "alice, ci-*"]
    limited = read(
        HEAD.replace("secret: {env: WORK}", "secret: {env: WORK}, who: alice", 1) + "routes: {default: [work]}"
    )
    assert limited.credentials["work"].who == ("alice",)


def test_q01_q02_what_is_said_of_limits_and_turns() -> None:
    """Q01, Q02: reserve, ramp, concurrency and until_reset; a route goes before the top level."""
    text = routes("{m: {candidates: [work], reserve: 10, strategy: soonest_reset, until_reset: true}, n: [work]}")
    text = text.replace("routes:\n  {", "reserve: 5\nramp: 0\nroutes: {")
    pool = read(text.replace("work: {upstream", "work: {concurrency: 3, upstream"))
    assert (pool.routes["m"].reserve, pool.routes["n"].reserve) == (0.1, 0.05)
    assert (pool.routes["m"].until_reset, pool.routes["n"].until_reset) == (6 * 3600, 0)
    assert (pool.ramp, pool.concurrency) == (0, {"work": 3})
    assert pool.routes["m"].strategy == "soonest_reset"
    plain = read(routes("m: [work]"))
    assert (plain.routes["m"].reserve, plain.ramp, plain.concurrency) == (0.02, 30, {})
    assert read(routes("m: {candidates: [work], until_reset: 1.5}")).routes["m"].until_reset == 5400
    assert read(routes("m: {candidates: [work], until_reset: false}")).routes["m"].until_reset == 0


def test_until_reset_of_the_routes_that_do_not_say_it() -> None:
    """What ``pool_wait`` says; a route's own word goes first, also where it is ``false``."""
    text = routes("{m: {candidates: [work], until_reset: 2}, n: [work], o: {candidates: [work], until_reset: false}}")
    text = text.replace("routes:\n  {", "routes: {")
    pool = parse(text, Path("/pools/pool.yaml"), ENVIRON, DIALECTS, until_reset=3600.0)
    assert [pool.routes[name].until_reset for name in "mno"] == [7200, 3600, 0]


ROUTE = "routes: {m: {candidates: [work], %s}}"
BOUNDS = {
    "affinity": ("affinity: %s", "seconds from 0 to 86400"),
    "ramp": ("ramp: %s", "seconds from 0 to 600"),
    "reserve": ("reserve: %s", "percent from 0 to 50"),
    "reserve of a route": (ROUTE % "reserve: %s", "percent from 0 to 50"),
    "until_reset": (ROUTE % "until_reset: %s", "hours from 0 to 168"),
    "attempts": ("budget: {attempts: %s}", "attempts from 1 to 32"),
    "seconds": ("budget: {seconds: %s}", "seconds from 0.01 to 3600"),
    "wait": ("budget: {wait: %s}", "seconds from 0 to 3600"),
    "first_event": ("budget: {first_event: %s}", "seconds from 0.01 to 3600"),
    "patience": ("budget: {patience: %s}", "seconds from 0 to 60"),
    "silence": ("budget: {silence: %s}", "seconds from 0 to 3600"),
    "first_output": ("budget: {first_output: %s}", "seconds from 0 to 3600"),
    "idle": ("budget: {idle: %s}", "seconds from 0.01 to 3600"),
    "hedge_after": ("budget: {hedge_after: %s}", "seconds from 0 to 3600"),
    "retry_same": (ROUTE % "actions: {overloaded: {retry_same: %s}}", "repeats from 0 to 1"),
    "seconds of an action": (ROUTE % "actions: {overloaded: {seconds: %s}}", "seconds from 0 to 604800"),
    "priority": ("routes: {m: [{credential: work, priority: %s}]}", "a priority from 1 to 100"),
    "weight": ("routes: {m: [{credential: work, weight: %s}]}", "a weight from 1 to 100"),
    "port": ("intercept: [{host: llm.corp, dialect: openai, port: %s}]", "a port from 1 to 65535"),
    "timeout": ("state: {url: redis://localhost, prefix: team, timeout: %s}", "seconds from 0.01 to 5"),
    "ttl": ("  last: {upstream: openai, secret: {command: [sh], ttl: %s}}", "seconds from 1 to 31536000"),
    "timeout of a command": (
        "  last: {upstream: openai, secret: {command: [sh], timeout: %s}}",
        "seconds from 0.1 to 600",
    ),
    "concurrency": ("  last: {upstream: openai, secret: {env: WORK}, concurrency: %s}", "calls from 1 to 10000"),
}


@pytest.mark.parametrize(("text", "bounds"), BOUNDS.values(), ids=BOUNDS)
def test_what_numbers_may_be(text: str, bounds: str) -> None:
    """Those at the bounds are taken; of every other one the bounds are told."""
    least, most = re.findall(r"[0-9.]+", bounds)
    for number in (least, most):
        assert not [each for each in problems_in(HEAD + text % number) if "weights of 'm' do nothing" not in each]
    for number in (str(int(most) + 1), "many"):
        assert any(each.endswith(f": write a number of {bounds}") for each in problems_in(HEAD + text % number))


@pytest.mark.parametrize(("price", "taken"), [("0", True), ("100000", True), ("100001", False)])
def test_q03_a_price_may_be_nothing(price: str, taken: bool) -> None:
    """Q03: a model that costs nothing has a price of 0; one that is not named has none."""
    prices = f"{{'*': {{input: {price}, output: {price}, cached: {price}}}}}"
    text = HEAD.replace("https://api.openai.com/v1}", f"https://api.openai.com/v1, prices: {prices}}}")
    if taken:
        assert read(text).upstreams["openai"].price("m") == Price(float(price), float(price), float(price))
    else:
        assert only_problem(text).write == "write a number of units for a million tokens from 0 to 100000"


@pytest.mark.parametrize("wrong", ["until_reset: soon", "until_reset: 200", "reserve: 60", "reserve: 2%"])
def test_what_is_wrong_about_limits(wrong: str) -> None:
    assert only_problem(routes(f"m: {{candidates: [work], {wrong}}}")).line
