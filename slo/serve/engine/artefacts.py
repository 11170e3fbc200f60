"""
What was made from a model, kept by content hash: converted once, quantised once, found again at every start.

    <cache>/digests.json                   SHA-256 of large files
    <cache>/<hash of weights, tokenizer, recipe, library versions>/    held while it is used, see `slo.model_store`
        tokenizer/tokenizer.json
        fp32/graph.xml  graph.bin          each folder with a manifest.json: sizes and SHA-256 of its files
        int8/graph.xml  graph.bin
        fidelity-int8-….json               per kind of CPU: rounding differs
        compiled/                          OpenVINO's own cache of compiled kernels

A folder appears complete or not at all (temporary name, fsync, rename); one that does not match its manifest is made
anew. A lock lets two replicas that start together quantise once.

`Digests` computes the SHA-256 of a large file once per content and not at every start: a model's weights take a second
or more. A digest is kept for as long as the file is the same inode with the same size, modification and change time.
The change time cannot be set by a program, so a file that was written to is always read again.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slo.errors import StoreError
from slo.files import fresh_tree, locked, private_folder, write_atomically
from slo.model_files import file_digest
from slo.model_store import Held, made_from, note_source
from slo.serve.engine.encoder_files import content_hash

Progress = Callable[[str, float], None]  # what is being done, and its share done from 0 to 1
WORTH_BYTES = 1 << 20  # smaller ones are read faster than looked up safely
SETTLED_NS = 2_000_000_000  # a file changed this recently may change again without a new time stamp
MANIFEST = "manifest.json"
DIGESTS = "digests.json"


def silent(stage: str, share: float) -> None:
    """Progress that nobody watches."""


class Digests:
    """Digests remembered in `file`, which may be missing or damaged: then everything is computed again."""

    def __init__(self, file: Path, compute: Callable[[Path], bytes] = file_digest) -> None:
        self._file = file
        self._compute = compute
        self._known = self._read()

    def __call__(self, path: Path) -> bytes:
        """The digest of `path`. Raises OSError if it cannot be read."""
        before = _identity(path)
        if before[2] < WORTH_BYTES:
            return self._compute(path)
        key = " ".join(map(str, before))
        found = self._known.get(str(path.absolute()))
        if found is not None and found[0] == key:
            return bytes.fromhex(found[1])
        digest = self._compute(path)
        settled = time.time_ns() - max(before[3:]) > SETTLED_NS
        if settled and _identity(path) == before:
            self._known[str(path.absolute())] = (key, digest.hex())
            self._write()
        return digest

    def _read(self) -> dict[str, tuple[str, str]]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return {str(path): (str(key), bytes.fromhex(digest).hex()) for path, (key, digest) in content.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _write(self) -> None:
        """Replace the file; two processes that do so at once know the same or a little less."""
        known = {path: entry for path, entry in self._known.items() if Path(path).exists()}
        try:
            write_atomically(self._file, json.dumps(known, indent=1))
        except StoreError:
            return  # a read-only or full disk costs the next start a second, nothing else


def _identity(path: Path) -> tuple[int, ...]:
    """What changes whenever the content does: device, inode, size, and the times of modification and change."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


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
            self._sweep(name)
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

    def _sweep(self, name: str) -> None:
        """Remove what a process that was killed has left of the folder `name`."""
        for path in self.directory.iterdir():
            if path.is_dir() and re.fullmatch(rf"\.{re.escape(name)}\.[^.]+(\.old)?", path.name):
                shutil.rmtree(path, ignore_errors=True)

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
