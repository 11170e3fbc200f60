"""What the extension changes in Xinference, called as Xinference calls it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from xinference.model.llm.cache_manager import LLMCacheManager

from slo.serve.extension import link_one_at_a_time


def manager(link: Path, files: Path) -> LLMCacheManager:
    made: LLMCacheManager = LLMCacheManager.__new__(LLMCacheManager)
    made._cache_dir, made._model_uri, made._model_name = str(link), files.as_uri(), "m"
    return made


@pytest.mark.parametrize("stale", [False, True], ids=["no link yet", "a link to a folder that is gone"])
def test_replicas_that_load_at_once_share_the_link_to_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: bool
) -> None:
    monkeypatch.setattr(LLMCacheManager, "cache_uri", LLMCacheManager.cache_uri)  # put back at the end
    link_one_at_a_time()
    files, replicas = tmp_path / "model", 8
    files.mkdir()
    with ThreadPoolExecutor(replicas) as pool:
        for number in range(40):
            link, together = tmp_path / f"link{number}", Barrier(replicas)
            if stale:
                link.symlink_to(tmp_path / "gone")

            def load(link: Path = link, together: Barrier = together) -> str:
                together.wait()
                return str(manager(link, files).cache_uri())

            assert {future.result() for future in [pool.submit(load) for _ in range(replicas)]} == {str(link)}
            assert link.resolve() == files
