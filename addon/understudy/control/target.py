"""What a person means in a command: a candidate, a credential or an upstream, and for how long.

``work gpt-5`` and ``work/gpt-5`` name a candidate (no credential's name has a slash in it), ``credential work`` and
``upstream openai`` the others. What is misspelt is answered with what there is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from understudy.config import suggestion
from understudy.failover import own_name
from understudy.model import Key, Pool, Scope, printable

FORMS = "`CREDENTIAL MODEL`, `CREDENTIAL/MODEL`, `credential NAME` or `upstream NAME`"
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 24 * 3600.0}
LONGEST = 365 * 24 * 3600.0
"""The longest suspension by hand, in seconds."""


class ControlError(ValueError):
    """A command that cannot be followed. Says why, and what can be written instead."""


def take_target(words: Sequence[str], pool: Pool, known: Collection[Key] = ()) -> tuple[Key, Sequence[str]]:
    """Read a target off the front of some words; returns it and the words that are left.

    ``known``: what is out of rotation, which may be named as well. Raises ControlError.
    """
    match list(words):
        case [("credential" | "upstream" | "candidate") as scope]:
            raise ControlError(f"`{scope}` needs a name: write {FORMS}")
        case ["candidate", *rest]:
            return _candidate(rest, pool, known)
        case ["credential", name, *rest]:
            return Key(Scope.CREDENTIAL, _credential(name, pool, known)), rest
        case ["upstream", name, *rest]:
            names = {*pool.upstreams, *(key.name for key in known if key.scope is Scope.UPSTREAM)}
            return Key(Scope.UPSTREAM, _one_of(name, names, "upstream")), rest
        case [_, *_]:
            return _candidate(words, pool, known)
    raise ControlError(f"a target is missing: write {FORMS}")


def _candidate(words: Sequence[str], pool: Pool, known: Collection[Key]) -> tuple[Key, Sequence[str]]:
    first, *rest = words
    name, slash, model = first.partition("/")
    if not slash:
        if len(rest) == 1 and _SECONDS.fullmatch(rest[0]) and first in {*pool.credentials, *pool.upstreams}:
            # A time in the place of the model: the whole credential or upstream is meant.
            kinds = [kind for kind, names in (("credential", pool.credentials), ("upstream", pool.upstreams))
                     if first in names]  # fmt: skip
            write = " or ".join(f"`{kind} {first} {rest[0]}`" for kind in kinds)
            raise ControlError(f"{_shown(first)} alone is no candidate: name its upstream model, or write {write}")
        if not rest:
            kinds = [kind for kind, names in (("credential", pool.credentials), ("upstream", pool.upstreams))
                     if first in names]  # fmt: skip
            write = " or ".join(f"`{kind} {first}`" for kind in kinds) or FORMS
            raise ControlError(f"{_shown(first)} alone is no candidate: add its upstream model, or write {write}")
        model, *rest = rest
    credential = _credential(name, pool, known)
    return Key(Scope.CANDIDATE, credential, _model(credential, model, pool, known)), rest


def _credential(name: str, pool: Pool, known: Collection[Key]) -> str:
    names = {*pool.credentials, *(key.name for key in known if key.scope is not Scope.UPSTREAM)}
    return _one_of(name, names, "credential")


def _model(credential: str, model: str, pool: Pool, known: Collection[Key]) -> str:
    """The upstream model, as the routes spell it."""
    for key in known:
        if key.scope is Scope.CANDIDATE and key.name == credential and model in (key.model, printable(key.model)):
            return key.model
    if model and any(route.means(own_name(credential), model) for route in pool.routes.values()):
        return model
    named = {
        choice.model if choice.model is not None else route.pattern
        for route in pool.routes.values()
        for choice in route.choices
        if choice.credential.name == credential
    }
    raise ControlError(f"no route has a candidate {_shown(f'{credential} {model}')}: {suggestion(model, named)}")


def _one_of(name: str, names: Collection[str], what: str) -> str:
    if name in names:
        return name
    raise ControlError(f"there is no {what} {_shown(name)}: {suggestion(name, names)}")


def take_seconds(words: Sequence[str], default: float) -> float:
    """The time that the words left over say, in seconds. Raises ControlError."""
    match list(words):
        case []:
            return default
        case [written] if found := _SECONDS.fullmatch(written):
            seconds = float(found[1]) * _UNITS[found[2]]
            if 0 < seconds <= LONGEST:
                return seconds
            raise ControlError(
                f"{_shown(written)} is not more than zero and at most a year: write seconds, or 10m, 2h, 1d"
            )
        case [written]:
            raise ControlError(f"{_shown(written)} is no time: write seconds, or 10m, 2h, 1d")
        case _:
            raise ControlError(f"too many words ({_shown(' '.join(words))}): write {FORMS}, then a time")


def _shown(text: str) -> str:
    return f"`{printable(text)}`"
