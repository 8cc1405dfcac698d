"""A real server for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.store_server import StoreServer, executable


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
