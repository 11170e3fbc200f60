"""
What lies in `<state_dir>/models`: graphs made from models, stand-ins, downloads; how much it takes, and who uses it.

A folder of graphs is named by a content hash. `made-from.json` in it says from which model folder it was made, and with
what. A process that serves from it holds a shared lock on `.in-use`, whose time tells when that was last; the kernel
drops the lock with the process. So what is pruned is never in use, and is what was not needed for longest.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slo.files import locked

RECIPE = "3"  # raise when conversion, quantisation or the texts of the gate change
SOURCE = "made-from.json"
LOCK = ".in-use"
PARTS = ("fp32", "int8", "compiled")
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_HASH = re.compile(r"[0-9a-f]{24}")
ABANDONED_S = 3600.0  # a temporary folder without a change for so long belongs to a process that died

Kind = Literal["graphs", "model", "left over"]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One folder. `used_s` is the wall time of its last use; `source` the model folder that graphs were made from."""

    path: Path
    kind: Kind
    source: str
    parts: tuple[str, ...]
    size_bytes: int
    used_s: float
    in_use: bool


def recipe() -> list[str]:
    """What a graph depends on beside the model's own files: our way of making it, and the libraries that do."""
    return [f"recipe {RECIPE}", *(f"{name} {importlib.metadata.version(name)}" for name in ("openvino", "nncf"))]


def made_from(model: Path, how: list[str]) -> dict[str, Any]:
    """The content of `made-from.json` for the model in folder `model`: enough to tell whether it is still the same."""
    weights = sorted(path for pattern in WEIGHTS for path in model.glob(pattern))
    states = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in weights}
    return {"directory": str(model.absolute()), "weights": states, "recipe": how}


def parts_made(models_dir: Path, model: Path) -> set[str]:
    """Which of `PARTS` are there for the model in folder `model`, by what `made-from.json` says."""
    wanted = made_from(model, recipe())
    return {
        part
        for folder in _folders(models_dir)
        if _HASH.fullmatch(folder.name) and _source(folder) == wanted
        for part in PARTS
        if (folder / part).is_dir()
    }


def listing(models_dir: Path) -> list[Stored]:
    """Everything there, the most recently used first."""
    found = [_stored(folder) for folder in _folders(models_dir)]
    return sorted(found, key=lambda entry: (-entry.in_use, -entry.used_s))


def prune(models_dir: Path, bound_bytes: int, *, now_s: float | None = None) -> list[Stored]:
    """Remove graphs, the least recently used first, until they take no more than `bound_bytes`; what was removed.

    Graphs in use stay whatever they take. Stand-ins and downloads are never touched: only graphs can be made again
    from what is at hand. What processes that died left over goes, too.
    """
    now_s = time.time() if now_s is None else now_s
    removed: list[Stored] = []
    total = 0
    for entry in listing(models_dir):
        if entry.kind == "left over":
            doomed = now_s - entry.used_s > ABANDONED_S
        else:
            total += entry.size_bytes if entry.kind == "graphs" else 0
            doomed = entry.kind == "graphs" and total > bound_bytes and not entry.in_use
        if doomed and _remove(entry):
            removed.append(entry)
    return removed


class Held:
    """A folder that is not pruned for as long as this object lives. On a disk that takes no lock it is not held."""

    def __init__(self, folder: Path) -> None:
        """Create `folder` and note that it is used now."""
        self._descriptor = -1
        while self._descriptor < 0:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError:
                return  # read-only or full: then nobody can remove anything either, or it will be made again
            locked(descriptor, shared=True, wait=True)
            if _is_at(folder / LOCK, descriptor):
                os.utime(descriptor)
                self._descriptor = descriptor
            else:  # pruned before the lock was had
                os.close(descriptor)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def note_source(folder: Path, content: dict[str, Any]) -> None:
    """Write down what the graphs in `folder` are made from; a full or read-only disk costs the note, nothing else."""
    if _source(folder) == content:
        return
    fresh = folder / f".{SOURCE}.{os.getpid()}"
    with suppress(OSError):
        fresh.write_text(json.dumps(content, indent=1), encoding="utf-8")
        fresh.replace(folder / SOURCE)


def _folders(models_dir: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in models_dir.iterdir() if path.is_dir() and not path.is_symlink())
    return []


def _source(folder: Path) -> Any:
    with suppress(OSError, ValueError):
        return json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    return None


def _stored(folder: Path) -> Stored:
    kind: Kind = "graphs" if _HASH.fullmatch(folder.name) else "left over" if folder.name.startswith(".") else "model"
    source = _source(folder)
    used = folder / LOCK
    return Stored(
        path=folder,
        kind=kind,
        source=str(source.get("directory", "")) if isinstance(source, dict) else "",
        parts=tuple(part for part in PARTS if (folder / part).is_dir()),
        size_bytes=_size(folder),
        used_s=(used if used.is_file() else folder).stat().st_mtime,
        in_use=_in_use(folder),
    )


def _size(folder: Path) -> int:
    """Bytes on disk; files that vanish meanwhile count as none."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def _in_use(folder: Path) -> bool:
    with _exclusive(folder) as free:
        return not free


def _remove(entry: Stored) -> bool:
    with _exclusive(entry.path) as free:
        if not free:
            return False
        doomed = entry.path.with_name(f".{entry.path.name}.pruned")
        try:
            entry.path.rename(doomed)  # at once: a process that starts now makes a new one
        except OSError:
            return False
    shutil.rmtree(doomed, ignore_errors=True)
    return True


@contextmanager
def _exclusive(folder: Path) -> Iterator[bool]:
    """Whether nobody uses `folder`, and nobody can begin to before the block ends."""
    path = folder / LOCK
    if not path.is_file():
        yield True
        return
    with path.open("rb") as file:
        try:
            free = locked(file.fileno())
        except OSError:  # a disk that takes no lock
            free = False
        yield free
