"""Values are checked and options are read as by mitmproxy, with the same errors, and without a trace afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from io import StringIO
from typing import Any, BinaryIO, Optional, TextIO, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import hooks, http, optmanager
from mitmproxy.net.http import url
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.test import tflow
from mitmproxy.utils import typecheck

from understudy.proxy.shortcuts import value_checks

THEIRS = typecheck.check_option_type
plain = st.sampled_from([str, bytes, int, float, bool, type(None), object, http.Headers, dict])
types = st.one_of(
    plain,
    st.builds(lambda one, other: one | other, plain, plain),
    st.builds(lambda one: Optional[one], plain),  # noqa: UP045  (a class of its own below Python 3.14)
    st.builds(lambda one, other: Union[one, other], plain, plain),  # noqa: UP007  (the same)
    st.builds(lambda one: Sequence[one], plain),  # type: ignore[valid-type]
    st.builds(lambda one, other: tuple[one, other], plain, plain),  # type: ignore[valid-type]
    st.sampled_from([Any, TextIO, BinaryIO, str | Sequence[int], list[int]]),
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.lists(st.integers() | st.text(max_size=1), max_size=3),
    st.tuples(st.text(max_size=1), st.integers()),
    st.builds(http.Headers),
    st.builds(StringIO),
    st.builds(dict),
)


def outcome(check: Any, value: object, kind: object) -> str:
    """What a check says of a value."""
    try:
        check("name", value, kind)
    except TypeError as error:
        return str(error)
    return "fits"


@given(values, types)
def test_a_value_is_checked_as_by_mitmproxy(value: object, kind: object) -> None:
    """The same values fit, and those that do not give the same error."""
    assert outcome(value_checks.check_option_type, value, kind) == outcome(THEIRS, value, kind)


@given(st.data(), st.sampled_from([http.RequestData, http.ResponseData]))
def test_the_parts_of_a_message_are_checked_as_by_mitmproxy(data: st.DataObject, kind: type[http.MessageData]) -> None:
    """The same values fit, and the first that does not gives the same error."""
    whole = {
        http.RequestData: http.Request.make("POST", "http://upstream.test/", b"{}"),
        http.ResponseData: http.Response.make(200, b"{}"),
    }[kind]
    parts = {field.name: getattr(whole.data, field.name) for field in fields(kind)}
    for name in data.draw(st.lists(st.sampled_from(sorted(parts)), max_size=2)):
        parts[name] = data.draw(values)

    def made() -> str:
        try:
            kind(**parts)
        except TypeError as error:
            return str(error)
        return "fits"

    theirs = made()
    leave = value_checks.install()
    try:
        assert made() == theirs
    finally:
        leave()
    assert "understudy" not in http.MessageData.__post_init__.__module__


def test_what_fits_makes_no_error() -> None:
    """A request, a response and their optional parts never come to mitmproxy's own check."""
    leave = value_checks.install()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(value_checks, "_check", lambda *_: pytest.fail("asked mitmproxy"))
            patch.setattr(value_checks, "_check_parts", lambda *_: pytest.fail("asked mitmproxy"))
            request = http.Request.make("POST", "http://upstream.test/", b"{}")
            response = http.Response.make(200, b"{}")
    finally:
        leave()
    assert request.content == response.content == b"{}"


def test_options_are_read_as_from_mitmproxy() -> None:
    """Values and defaults; what can be changed is a copy each time."""
    manager = optmanager.OptManager()
    manager.add_option("words", Sequence[str], ["one"], "")
    manager.add_option("word", str, "a", "")
    manager.add_option("maybe", int | None, None, "")
    leave = value_checks.install()
    try:
        assert (manager.word, manager.maybe, manager.words) == ("a", None, ["one"])
        manager.words.append("two")
        assert manager.words == ["one"]
        manager.update(word="b", maybe=3, words=["three"])
        assert (manager.word, manager.maybe, manager.words) == ("b", 3, ["three"])
        manager.words.append("four")
        assert manager.words == ["three"]
        manager.reset()
        assert (manager.word, manager.maybe, manager.words) == ("a", None, ["one"])
        with pytest.raises(TypeError, match="Expected <class 'str'> for word, but got <class 'int'>"):
            manager.update(word=3)
        with pytest.raises(AttributeError, match="No such option: wood"):
            _ = manager.wood
        assert getattr(manager, "wood", "none") == "none"
    finally:
        leave()


@dataclass
class Odd(commands.StartHook):
    """A hook that is made in its own way."""

    number: int
    name = "odd_of_this_test"

    def __new__(cls, *_: object, **__: object) -> Odd:
        """Says that it was asked."""
        made: Odd = super().__new__(cls)  # type: ignore[no-untyped-call]
        made.asked = True
        return made

    asked = False


class Bare(hooks.Hook):
    """No dataclass."""

    name = "bare_of_this_test"


@dataclass
class Below(HttpRequestHook):
    """A hook below another one."""

    name = "below_of_this_test"


for each in (Odd, Bare, Below):
    del hooks.all_hooks[each.name]  # these are for this file only


def test_hooks_and_ends_of_commands_are_made_as_by_mitmproxy() -> None:
    """Those that may be made, again and again, and those that may not."""
    flow, opening = tflow.tflow(), commands.OpenConnection(tflow.tserver_conn())
    makers: list[tuple[Any, tuple[object, ...]]] = [
        (HttpRequestHook, (flow,)),
        (Below, (flow,)),
        (hooks.UpdateHook, ([flow],)),
        (events.OpenConnectionCompleted, (opening, None)),
        (events.OpenConnectionCompleted, (opening,)),
        (Odd, (3,)),
        (Odd, ()),
        (Bare, ()),
        (hooks.Hook, ()),
        (commands.StartHook, ()),
        (events.CommandCompleted, (opening, None)),
        (HttpRequestHook, ()),
    ]

    def made() -> list[object]:
        found: list[object] = []
        for kind, arguments in makers * 2:
            try:
                each = kind(*arguments)
                found.append((type(each), dict(vars(each))))
            except Exception as error:
                found.append((type(error), str(error)))
        return found

    theirs = made()
    leave = value_checks.install()
    try:
        assert made() == theirs
        assert {HttpRequestHook, Below} <= value_checks._SOUND
        assert not {Odd, Bare, hooks.Hook} & value_checks._SOUND
    finally:
        leave()
    assert all(vars(kind)["__new__"] is own for kind, own in value_checks._NEW.items())
    assert made() == theirs


def test_a_host_name_is_checked_as_by_mitmproxy_and_once() -> None:
    """Text and bytes, with the same errors; an error is found anew each time."""
    theirs = url.parse_authority

    def outcome(parse: Any, authority: str | bytes, check: bool) -> object:
        try:
            return parse(authority, check=check)
        except ValueError as error:
            return type(error)

    leave = value_checks.install()
    try:
        for authority in (
            "api.test:443",
            b"api.test:443",
            b"[::1]:80",
            "b\xfccher.test",
            b"\xff",
            "a b",
            "",
            "x:99999",
        ):
            for check in (True, False, True):
                assert outcome(url.parse_authority, authority, check) == outcome(theirs, authority, check)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(url, "is_valid_host", lambda _: pytest.fail("checked again"))
            assert url.parse_authority("api.test:443", check=True) == ("api.test", 443)
    finally:
        leave()
    assert url.parse_authority is theirs


def test_it_is_taken_out_without_a_trace() -> None:
    """Also when it was put in twice; what another has put in its place is left alone."""
    current, read = optmanager._Option.current, optmanager.OptManager.__getattr__
    leave = value_checks.install()
    assert typecheck.check_option_type is value_checks.check_option_type
    value_checks.install()()
    assert typecheck.check_option_type is value_checks.check_option_type
    leave()
    assert (typecheck.check_option_type, optmanager._Option.current) == (THEIRS, current)
    assert optmanager.OptManager.__getattr__ is read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typecheck, "check_option_type", of_another := lambda *_: None)
        value_checks.install()()
        assert typecheck.check_option_type is of_another
