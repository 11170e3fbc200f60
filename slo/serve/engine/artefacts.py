"""
What was made from a model, kept by content hash: converted once, quantised once, found again at every start.

    <cache>/digests.json                   SHA-256 of large files, see `slo.serve.engine.digests`
    <cache>/<hash of weights, tokenizer, recipe, library versions>/    held while it is used, see `slo.model_store`
        tokenizer/tokenizer.json
        fp32/graph.xml  graph.bin          each folder with a manifest.json: sizes and SHA-256 of its files
        int8/graph.xml  graph.bin
        fidelity-int8-….json               per kind of CPU: rounding differs
        compiled/                          OpenVINO's own cache of compiled kernels

A folder appears complete or not at all (temporary name, fsync, rename); one that does not match its manifest is made
anew. A lock lets two replicas that start together quantise once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slo.files import fresh_tree, locked, private_folder
from slo.model_store import Held, made_from, note_source
from slo.serve.engine.digests import Digests
from slo.serve.engine.model_files import content_hash, file_digest

MANIFEST = "manifest.json"
DIGESTS = "digests.json"


class NotMade(Exception):
    """An artefact is missing, and this process was told not to make any."""


class Artefacts:
    """Everything derived from one model directory. `recipe` names whatever else the result depends on.

    With `may_make` False a missing one raises NotMade: a serving process leaves that to a helper, since the converter
    and the quantiser would stay in its memory.
    """

    def __init__(self, model_directory: Path, cache: Path, *recipe: str, may_make: bool = True) -> None:
        self.may_make = may_make
        model_directory = Path(model_directory)
        private_folder(Path(cache))
        self.digests = Digests(Path(cache).absolute() / DIGESTS)
        self.hash = content_hash(model_directory, *recipe, digest_of=self.digests)
        self.directory = Path(cache).absolute() / self.hash[:24]
        self._held = Held(self.directory)
        note_source(self.directory, made_from(model_directory, list(recipe)))

    def folder(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder `name`, made by `make(empty folder)` unless an intact one is there."""
        final = self.directory / name
        if is_intact(final, self.digests):
            return final
        if not self.may_make:
            raise NotMade(name)
        with self._lock(name):
            if is_intact(final, self.digests):  # another process made it while this one waited
                return final
            with fresh_tree(final) as fresh:
                make(fresh)
                _seal(fresh)
        return final

    def document(self, name: str, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The JSON document `name`, made unless it is there and readable."""

        def write(folder: Path) -> None:
            (folder / "content.json").write_text(json.dumps(make(), indent=1), encoding="utf-8")

        content = json.loads((self.folder(name, write) / "content.json").read_text(encoding="utf-8"))
        return {str(key): value for key, value in content.items()}

    def known(self, name: str) -> dict[str, float] | None:
        """The JSON document `name`, if there is one."""
        return self.document(name, dict) if is_intact(self.directory / name, self.digests) else None

    def renewed(self, name: str, content: dict[str, float]) -> dict[str, float]:
        """`content` as the JSON document `name`, in place of any other."""
        self.forget(name)
        return self.document(name, lambda: content)

    def forget(self, *patterns: str) -> None:
        """Remove folders and documents by name; `*` stands for anything."""
        for path in [path for pattern in patterns for path in self.directory.glob(pattern)]:
            shutil.rmtree(path, ignore_errors=True)

    @property
    def compiled(self) -> Path:
        """Where OpenVINO keeps compiled kernels."""
        return self.directory / "compiled"

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        # one per folder, since making one may need another; released with the file, also when the process dies
        with (self.directory / f".{name}.lock").open("a") as file:
            locked(file.fileno(), wait=True)
            yield


def is_intact(folder: Path, digest_of: Callable[[Path], bytes] = file_digest) -> bool:
    """Whether all files of a sealed folder are there, unchanged since they were sealed."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest) and all(
            (folder / name).stat().st_size == entry["size"] and digest_of(folder / name).hex() == entry["sha256"]
            for name, entry in manifest.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _seal(folder: Path) -> None:
    """Write the manifest."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    manifest = {path.name: {"size": path.stat().st_size, "sha256": file_digest(path).hex()} for path in files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
