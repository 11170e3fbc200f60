"""
Under which names a checkpoint holds its weights: read without loading them.

DDP and torch.compile put a prefix before every name. Our engine takes it off; sentence-transformers finds none of the
weights it looks for, puts random numbers in their place, and serves.
"""

from __future__ import annotations

import json
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

from slo.deploy.model_files import weight_files
from slo.errors import ModelSourceError

WRAPPERS = ("module.", "_orig_mod.")
PICKLE_LIMIT_BYTES = 64 * 2**20  # names and shapes only; the numbers lie beside it


def require_plain(directory: Path) -> None:
    """Raise `ModelSourceError` when every weight of the model in `directory` has a wrapper's prefix."""
    for path in weight_files(directory):
        names = list(_names(path))
        wrapper = next((prefix for prefix in WRAPPERS if names and all(name.startswith(prefix) for name in names)), "")
        if wrapper:
            raise ModelSourceError(
                f"{path}: the names of all weights begin with {wrapper!r}, as DDP or torch.compile leave them: "
                "sentence-transformers would serve random numbers instead",
                hint="save the model inside the wrapper; the engine openvino takes the prefix off by itself",
            )


def _names(path: Path) -> Iterator[str]:
    """The names in a safetensors header, or those in a torch file that end as weights' do."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        yield from (name for name in header if name != "__metadata__")
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith("/data.pkl") and entry.file_size <= PICKLE_LIMIT_BYTES:
                    strings = (value for _, value, _ in pickletools.genops(archive.read(entry)))
                    yield from (x for x in strings if isinstance(x, str) and x.endswith((".weight", ".bias")))
