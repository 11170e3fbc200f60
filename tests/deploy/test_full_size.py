"""The stand-in of full size, served on a real Xinference where there is no model: as a new user meets it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from slo.deploy.job import Progress
from slo.deploy.launch import launch
from tests.deploy.test_standin import check_related_are_closer
from tests.servers import Server, running, settings

# Generates, converts and quantises 400 MB of weights.
pytestmark = [pytest.mark.server, pytest.mark.full, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Launched from nothing."""
    directory = tmp_path_factory.mktemp("full")
    config = settings(directory, directory / "no-model-here").replaced(**{"model.stand_in": "full"})
    yield from running(config, directory)


def test_the_full_size_stand_in_comes_up_where_there_is_no_model(full_size: Server) -> None:
    up = full_size
    assert up.dimension == 768
    assert up.launched.plan.stand_in
    assert up.launched.first is not None
    assert up.launched.first.failed == 0
    assert os.fspath(up.state_dir / "models" / "stand-in-full") == up.launched.plan.directory


def test_a_second_launch_finds_it_up(full_size: Server) -> None:
    again = launch(full_size.config, Progress(Console(file=io.StringIO())))
    assert not again.changed
    assert again.plan.directory == full_size.launched.plan.directory


def test_the_full_size_has_768_dimensions_and_the_same_sense_of_likeness(full_size: Server) -> None:
    model = Path(full_size.launched.plan.directory)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    assert (config["hidden_size"], config["num_hidden_layers"]) == (768, 12)
    check_related_are_closer(model, pairs=25)
