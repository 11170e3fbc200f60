import os
from pathlib import Path

import pytest

from slo.errors import StoreError
from slo.files import fresh_tree, locked, write_atomically


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


def test_a_fresh_tree_takes_the_place_of_another_whole_and_readable(tmp_path: Path) -> None:
    final = tmp_path / "model"
    (final / "old").mkdir(parents=True)
    with fresh_tree(final) as fresh:
        (fresh / "new.txt").write_text("new", encoding="utf-8")
        assert (final / "old").is_dir(), "the old one stays until the new one is whole"
    assert [path.name for path in final.iterdir()] == ["new.txt"]
    assert final.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_tree_that_fails_leaves_the_old_one_and_no_trace(tmp_path: Path) -> None:
    final = tmp_path / "model"
    (final / "old").mkdir(parents=True)
    with pytest.raises(RuntimeError), fresh_tree(final) as fresh:
        (fresh / "half").touch()
        raise RuntimeError
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["model", "model/old"]


def test_a_lock_is_had_once_or_shared_and_ends_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with path.open() as mine, path.open() as other:
        assert locked(mine.fileno())
        assert not locked(other.fileno())
        assert not locked(other.fileno(), shared=True)
    with path.open() as one, path.open() as two, path.open() as three:
        assert locked(one.fileno(), shared=True)
        assert locked(two.fileno(), shared=True)
        assert not locked(three.fileno())
