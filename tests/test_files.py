import os
from pathlib import Path

import pytest

from slo.errors import StoreError
from slo.files import write_atomically


def test_a_write_that_fails_names_the_file_and_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, "old", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    # The name of the temporary file is taken by a directory, so that root fails here as well.
    blocker = tmp_path / f".state.json.{os.getpid()}.tmp"
    blocker.mkdir()
    with pytest.raises(StoreError, match=r"state\.json: cannot be written"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"


def test_a_write_leaves_nothing_but_the_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "a.txt", "text")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_what_lies_at_the_temporary_name_is_neither_followed_nor_kept(tmp_path: Path) -> None:
    path, victim = tmp_path / "api_key", tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    temporary = tmp_path / f".api_key.{os.getpid()}.tmp"
    temporary.symlink_to(victim)
    write_atomically(path, "secret", mode=0o600)
    assert victim.read_text(encoding="utf-8") == "mine"
    assert not path.is_symlink()
    temporary.touch(mode=0o666)
    write_atomically(path, "secret", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
