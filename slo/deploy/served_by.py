"""
Who serves a named model here: our engine, one of Xinference's behind our door, or nobody, and why.

Its files decide where they are on this disk; without them its architecture, and what Xinference's catalogue says that
the model needs.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from slo.deploy.catalogue import Family, cached
from slo.deploy.launch_plan import Engine, suited
from slo.deploy.registration import OPENVINO, STOCK_ENGINE
from slo.model_names import OUR_ARCHITECTURES

ENGINES = {STOCK_ENGINE: "sentence_transformers", "vllm": "vllm", "flag": "FlagEmbedding"}  # and what each imports
_FOR_ENGINE = re.compile(r'#engine#\s*==\s*"([^"]+)"')


@dataclass(frozen=True, kw_only=True)
class ServedBy:
    """`engine` is empty when nobody serves the model here; `reason` tells why it is not our own."""

    engine: str
    reason: str = ""
    files: Path | None = None


def server_of(family: Family, state_dir: Path) -> ServedBy:
    """Who would serve this model if it were launched now."""
    files = files_of(family, state_dir)
    if files is not None:
        engine = suited(Engine(name=OPENVINO, extension=True), files, state_dir / "models")
        if engine.name == OPENVINO:
            return ServedBy(engine=OPENVINO, files=files)
        reason = engine.reason.partition(": ")[2]
    elif family.architecture in OUR_ARCHITECTURES:
        return ServedBy(engine=OPENVINO)
    else:
        reason = (
            f"models of type {family.architecture!r} are not ours" if family.architecture
            else "embeds more than text" if family.abilities
            else "runs code of its own repository" if family.builtin
            else "its files are not on this disk"
        )  # fmt: skip
    missing: list[str] = []
    for engine_name in engines_of(family):
        unmet = list(unmet_requirements(family, engine_name))
        if not unmet:
            return ServedBy(engine=engine_name, reason=reason, files=files)
        missing.append(f"{engine_name} needs {', '.join(unmet)}")
    return ServedBy(engine="", reason=f"{reason}; {'; '.join(missing)}", files=files)


def files_of(family: Family, state_dir: Path) -> Path | None:
    """Where its files are on this disk; None if they are not."""
    places = (family.usual_path, state_dir / "models" / family.name)
    found = next((place for place in places if (place / "config.json").is_file()), None)
    return found or (cached(family.name, state_dir) if family.builtin else None)


def engines_of(family: Family) -> list[str]:
    """Xinference's engines for it, in order; sentence_transformers for one that it says nothing of."""
    named = {match[1] for text in family.requirements if (match := _FOR_ENGINE.search(text))}
    return [engine for engine in ENGINES if engine == STOCK_ENGINE or engine in named]


def unmet_requirements(family: Family, engine: str) -> Iterator[str]:
    """What `engine` needs for this model and this environment lacks, with what is there instead."""
    if importlib.util.find_spec(ENGINES[engine]) is None:
        yield f"{ENGINES[engine]} (not installed)"
        return
    for text in family.requirements:
        wanted, _, marker = text.partition(";")
        about = _FOR_ENGINE.search(marker)
        if wanted.strip().startswith("#") or (about and about[1] != engine):
            continue  # a group of packages that the engine always needs, or another engine's
        try:
            requirement = Requirement(wanted)
        except InvalidRequirement:
            continue
        try:
            here = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement} (not installed)"
            continue
        if not requirement.specifier.contains(here, prereleases=True):
            yield f"{requirement} (here: {here})"
