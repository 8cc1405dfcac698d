"""Parts of a message, and ids of flows, are as from mitmproxy, and its classes are as they were afterwards."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import flow, http
from mitmproxy.test import tflow

from understudy.proxy.shortcuts import flow_parts
from understudy.proxy.shortcuts.flow_parts import PARTS

values = st.none() | st.integers() | st.text(max_size=2) | st.binary(max_size=2) | st.builds(http.Headers)


def plain(self: Any) -> object:
    """What each of these properties has to be."""
    return self.data.part


@pytest.mark.parametrize(("kind", "name", "part"), PARTS)
def test_mitmproxys_own_does_nothing_else(kind: type[http.Message], name: str, part: str) -> None:
    """In this release: it returns a part, and has no other step."""
    own = flow_parts._OWN[kind, name]
    assert own.fget is not None and own.fget.__code__.co_names == ("data", part)
    assert own.fget.__code__.co_code == plain.__code__.co_code


def seen(kind: type[http.Message], name: str, value: object) -> list[object]:
    """A message's part as it is read, set and removed."""
    message = http.Request.make("GET", "http://a.test/") if kind is not http.Response else http.Response.make(200)
    steps: list[Callable[[], object]] = [
        lambda: getattr(message, name),
        lambda: setattr(message, name, value),
        lambda: getattr(message, name),
        lambda: delattr(message, name),
        lambda: getattr(kind.__new__(kind), name),
    ]
    found: list[object] = []
    for step in steps:
        try:
            found.append(step())
        except Exception as error:
            found.append((type(error), str(error)))
    parts = dict(vars(message.data))
    del parts["timestamp_start"], parts["timestamp_end"]
    return [each for each in found if not isinstance(each, float)] + [parts]


@given(st.sampled_from(PARTS), values)
def test_a_part_is_read_and_set_as_from_mitmproxy(place: tuple[type[http.Message], str, str], value: object) -> None:
    """Also what cannot be set, and that of a message without parts."""
    kind, name, _ = place
    theirs = seen(kind, name, value)
    leave = flow_parts.install()
    try:
        assert type(vars(kind)[name].fget) is attrgetter
        assert vars(kind)[name].__doc__ == flow_parts._OWN[kind, name].__doc__
        ours = seen(kind, name, value)
    finally:
        leave()
    assert ours == theirs


def test_it_is_taken_out_without_a_trace() -> None:
    """Also when it was put in twice; what another program has put in its place is left alone."""
    own = flow_parts._OWN[http.Message, "headers"]
    leave = flow_parts.install()
    flow_parts.install()()
    assert vars(http.Message)["headers"] is not own
    leave()
    assert all(vars(kind)[name] is each for (kind, name), each in flow_parts._OWN.items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http.Message, "headers", another := property(lambda _: None))
        flow_parts.install()()
        assert vars(http.Message)["headers"] is another


@given(st.binary(min_size=16, max_size=16))
def test_an_id_is_what_python_makes_of_the_same_bytes(random: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", lambda count: random[:count])
        assert flow_parts.id_text() == str(uuid.UUID(bytes=random, version=4))


def test_flows_have_them_until_they_are_taken_away() -> None:
    """Each its own, and a copy of a flow as well; what another program has put there is left alone."""
    leave = flow_parts.install()
    flow_parts.install()()  # a second one changes nothing
    try:
        assert vars(flow)["uuid"].uuid4 is flow_parts.id_text
        assert vars(flow)["uuid"].UUID is uuid.UUID
        made = [tflow.tflow() for _ in range(50)]
        ids = {each.id for each in [*made, *(each.copy() for each in made)]}
        assert len(ids) == 100
        assert all(type(each) is str and str(uuid.UUID(each)) == each for each in ids)
    finally:
        leave()
    assert vars(flow)["uuid"] is uuid
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "uuid", another := object())
        flow_parts.install()()
        assert vars(flow)["uuid"] is another
