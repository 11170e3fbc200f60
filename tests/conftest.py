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
from typing import Any

import hypothesis
import pytest

from slo.deploy.standin import write_standin
from slo.serve.engine.loading import Workshop
from tests import orphans
from tests.servers import Server, running, settings
from tests.sharing import ByServer

# On a busy machine a draw may take seconds; that is no finding. In CI the same examples each time.
hypothesis.settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
hypothesis.settings.load_profile("shared machine")


GUARD = pytest.StashKey[subprocess.Popen[bytes]]()

# Xinference gives a new model process a minute to import all it needs, else the launch has failed. Beside other load
# that is too little. Servers inherit it.
os.environ.setdefault("XINFERENCE_SUBPOOL_LAUNCH_TIMEOUT", "600")

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer | None:
    """With `--dist loadfile`, as `make test` has it."""
    return ByServer(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process works on it after the others have ended."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    if item.get_closest_marker("full"):
        return 0
    if item.get_closest_marker("server"):
        return 1 if item.get_closest_marker("shares") else 2
    return 3 if "engine" in item.path.parts else 4


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tiny stand-in: 2 layers, 128 dimensions."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_standin(directory, size="tiny")
    return directory


@pytest.fixture(scope="session")
def tiny_graphs(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Its graphs, converted, quantised and judged once for all processes of the run; to be copied, not changed."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    Workshop(tiny_model, folder / "tiny-graphs").choose("auto")  # made under a lock: the others wait, and find them
    return folder / "tiny-graphs"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_graphs: Path) -> Iterator[Server]:
    """The whole thing: our extension and engine on Xinference."""
    directory = tmp_path_factory.mktemp("server")
    yield from running(settings(directory, tiny_model), directory, graphs=tiny_graphs)


@pytest.fixture(scope="session")
def stock_server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """Xinference 4.1.0 as it comes, with its sentence_transformers engine."""
    directory = tmp_path_factory.mktemp("stock")
    yield from running(settings(directory, tiny_model), directory, stock=True)


@pytest.fixture(scope="session")
def drilled(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_graphs: Path) -> Iterator[Server]:
    """A server that may be told to answer late."""
    directory = tmp_path_factory.mktemp("drilled")
    yield from running(settings(directory, tiny_model).replaced(**{"serve.drill": True}), directory, graphs=tiny_graphs)
