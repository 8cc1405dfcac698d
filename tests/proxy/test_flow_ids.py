"""Ids of flows look as those of mitmproxy, are as unique, and are made by mitmproxy again afterwards."""

from __future__ import annotations

import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import flow
from mitmproxy.test import tflow

from understudy.proxy import flow_ids


@given(st.binary(min_size=16, max_size=16))
def test_an_id_is_what_python_makes_of_the_same_bytes(random: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", lambda count: random[:count])
        assert flow_ids.text() == str(uuid.UUID(bytes=random, version=4))


def test_flows_have_them_until_they_are_taken_away() -> None:
    """Each its own, and a copy of a flow as well; what another program has put there is left alone."""
    leave = flow_ids.install()
    flow_ids.install()()  # a second one changes nothing
    try:
        assert vars(flow)["uuid"].uuid4 is flow_ids.text
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
        flow_ids.install()()
        assert vars(flow)["uuid"] is another
