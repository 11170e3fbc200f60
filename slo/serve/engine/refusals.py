"""
Models that this engine cannot run: judged by their JSON files, or found out when they were converted.

What a conversion came to is kept beside the graphs, under the hash of everything it depended on: the launch asks here
before it chooses an engine, and again after a failure. `python -m slo.serve.engine.refusals MODEL CACHE` answers 0, or
2 with the reason on stdout; it imports no heavy library.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slo.errors import QuantizeError, SloError
from slo.model_store import recipe
from slo.serve.engine.artefacts import DIGESTS, Artefacts, Digests
from slo.serve.engine.encoder_files import FALL_BACK, content_hash, read_model

FOLDER, REASON = "refused", "reason.txt"


@contextmanager
def remembered(artefacts: Artefacts) -> Iterator[None]:
    """Keep the reason when what runs inside finds that another engine is needed; the error goes on.

    What is known already is raised at once: every precision begins with the same conversion.
    """
    known = artefacts.directory / FOLDER / REASON
    if known.is_file():
        raise QuantizeError(known.read_text(encoding="utf-8"), hint=FALL_BACK)
    try:
        yield
    except QuantizeError as error:
        if error.hint == FALL_BACK:
            reason = error.message
            artefacts.folder(FOLDER, lambda folder: _write(folder, reason))
        raise


def refusal(directory: Path, cache: Path) -> str:
    """Why this engine cannot run the model in `directory`, as far as is known; empty if it may."""
    try:
        read_model(directory)
    except SloError as error:
        return error.message
    if not any(cache.glob(f"*/{FOLDER}")):
        return ""  # spares reading the weights
    key = content_hash(directory, *recipe(), digest_of=Digests(cache.absolute() / DIGESTS))
    file = cache / key[:24] / FOLDER / REASON
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _write(folder: Path, reason: str) -> None:
    (folder / REASON).write_text(reason, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Answer for one model."""
    reason = refusal(*map(Path, arguments))
    if reason:
        print(reason)  # noqa: T201 - the answer
    return SloError.exit_code if reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
