"""A real server for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.store_server import StoreServer, executable, valkey


@pytest.fixture
def server() -> Iterator[StoreServer]:
    """A server of the test's own."""
    if executable() is None:
        pytest.skip("no valkey-server or redis-server is installed")
    running = StoreServer()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(params=["installed", "valkey"])
def each_server(request: pytest.FixtureRequest) -> Iterator[StoreServer]:
    """The server that is installed, and Valkey's own: what the scripts ask of it, both have to do alike."""
    if executable() is None:
        pytest.skip("no valkey-server or redis-server is installed")
    running = StoreServer(program=valkey() if request.param == "valkey" else None)
    try:
        yield running
    finally:
        running.close()
