"""What the tests share: a CA, a scriptable upstream, and real mitmproxy processes that always end with their test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.e2e.authority import Authority
from tests.e2e.proxy import Proxy, StartProxy, make_confdir
from tests.e2e.stage import ENVIRONMENT, Stage, pool_yaml
from tests.e2e.upstream import Upstream
from tests.support.skips import pytest_make_collect_report as pytest_make_collect_report
from tests.support.skips import pytest_runtest_makereport as pytest_runtest_makereport

# The same examples in every run, and no time limits: a run on a busy machine must end as one on an idle one.
settings.register_profile("understudy", derandomize=True, deadline=None)
settings.load_profile("understudy")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA of every test upstream."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def confdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mitmproxy's configuration folder with its CA, one for the session as making the key takes a second."""
    return make_confdir(tmp_path_factory.mktemp("confdir"))


@pytest.fixture
def upstream(authority: Authority) -> Iterator[Upstream]:
    """A scriptable upstream."""
    with Upstream(authority) as running:
        yield running


@pytest.fixture
def other_upstream(authority: Authority) -> Iterator[Upstream]:
    """A second one, with ports of its own."""
    with Upstream(authority) as running:
        yield running


@pytest.fixture
def mitmdump(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[StartProxy]:
    """Start a real mitmdump: ``mitmdump(pool_yaml=..., mode=..., ...)``; the arguments are those of ``Proxy``."""
    with contextlib.ExitStack() as running:

        def start(**options: object) -> Proxy:
            options = {"trusted": authority.path, **options}
            return running.enter_context(Proxy(tmp_path_factory.mktemp("proxy"), confdir, **options))  # type: ignore[arg-type]

        yield start


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    """One proxy over two upstreams for the whole session; the other upstream speaks HTTP/1.1 only."""
    with Upstream(authority) as main, Upstream(authority, alpn=["http/1.1"]) as other:
        directory = tmp_path_factory.mktemp("stage")
        options = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool_yaml(main, other)}
        with Proxy(directory, confdir, **options) as proxy:  # type: ignore[arg-type]
            yield Stage(proxy, main, other)
