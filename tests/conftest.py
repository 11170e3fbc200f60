"""
Shared by all tests: a real Xinference with the tiny stand-in model, started at most once per session.

`server` runs as `make launch` would start it, extension and engine included. `stock_server` is Xinference as it comes.
Both are stopped at the end of the session, whatever happened.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from slo.deploy.standin import write_standin
from tests import orphans
from tests.servers import Server, running, settings

# Files that measure real time, load the machine, or need the main thread's signals: never beside others.
ALONE = frozenset(
    "test_against_wrk test_load test_load_command test_conditions test_interleaved test_soak test_session test_probes "
    "test_interrupt test_exclusive test_outbox test_outbox_killed test_forkserver test_footprint test_real_prometheus "
    "test_watch test_loop test_alert test_stress_killed test_record".split()
)


# On a busy machine a draw may take seconds; that is no finding. In CI the same examples each time.
hypothesis.settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
hypothesis.settings.load_profile("shared machine")


GUARD = pytest.StashKey[subprocess.Popen[bytes]]()

# torch imports triton wherever it is installed, and triton prints pages of leaked objects at exit, after the result of
# the tests. It compiles for GPUs, which no test has.
sys.modules["triton"] = None  # type: ignore[assignment]


def pytest_configure(config: pytest.Config) -> None:
    """Servers outlive the process that launches them, so something else must end those of a run that was killed."""
    if orphans.VARIABLE not in os.environ:
        os.environ[orphans.VARIABLE] = uuid.uuid4().hex
        config.stash[GUARD] = orphans.start(os.environ[orphans.VARIABLE])


def pytest_unconfigure(config: pytest.Config) -> None:
    """An orderly end: nothing is left, and the guard goes too."""
    if guard := config.stash.get(GUARD, None):
        del os.environ[orphans.VARIABLE]
        guard.communicate(timeout=60)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test` runs in one process, after the rest has run in several."""
    for item in items:
        if item.path.stem in ALONE or item.get_closest_marker("server") or item.get_closest_marker("full"):
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tiny stand-in: 2 layers, 128 dimensions."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_standin(directory, size="tiny")
    return directory


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """The whole thing: our extension and engine on Xinference."""
    directory = tmp_path_factory.mktemp("server")
    yield from running(settings(directory, tiny_model), directory)


@pytest.fixture(scope="session")
def stock_server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """Xinference 4.1.0 as it comes, with its sentence_transformers engine."""
    directory = tmp_path_factory.mktemp("stock")
    yield from running(settings(directory, tiny_model), directory, stock=True)
