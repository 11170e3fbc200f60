"""
The embedding models that have a name: those built into Xinference, those registered with it, and gte-base-zh.

Read from Xinference's own files, since importing it takes seconds. Of a built-in model they tell where it comes from,
what it needs and how long its vectors are.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from slo.config import Config, ModelSection
from slo.model_names import ARCHITECTURES

IMAGE_FOLDER = Path("/usr/local/bin")  # where the deployment image has a model, below that by its id on ModelScope
GTE = "gte-base-zh"
GTE_IDS = {"modelscope": f"AI-ModelScope/{GTE}", "huggingface": f"thenlper/{GTE}"}
GTE_PATH = IMAGE_FOLDER / GTE_IDS["modelscope"]
STAND_IN_REVISION = "stand-in-weights"  # the one free-text field that /v1/models shows


@dataclass(frozen=True, kw_only=True)
class Family:
    """One named model. `ids` are its names on the hubs, `requirements` what Xinference would install for it.

    `directory` is where a registered one has its files.
    """

    name: str
    dimensions: int
    max_tokens: int
    languages: tuple[str, ...] = ()
    abilities: tuple[str, ...] = ()
    ids: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    directory: Path | None = None
    builtin: bool = True

    @property
    def architecture(self) -> str:
        """As config.json names it; empty where only the files can tell."""
        return "bert" if self.name == GTE else ARCHITECTURES.get(self.name, "") if self.builtin else ""

    @property
    def usual_path(self) -> Path:
        """Where its files are looked for when nothing else is said."""
        return self.directory or IMAGE_FOLDER / self.ids.get("modelscope", self.ids.get("huggingface", self.name))


def builtin_families() -> list[Family]:
    """All that the installed Xinference has, by name; none where it is not installed."""
    return sorted(_read_builtin(), key=lambda family: family.name.lower())


def find_family(name: str, state_dir: Path) -> Family | None:
    """The model of that name; None for one that neither Xinference nor a registration knows.

    As in Xinference a built-in name comes first. Registrations are those of our own server below `state_dir`, then
    those of a stock one of this user.
    """
    if name == GTE:
        return usual_family()
    builtin = next(_read_builtin(name), None)
    return builtin or _registered(name, state_dir)


def usual_family() -> Family:
    """What is served when no name is given."""
    return Family(name=GTE, dimensions=768, max_tokens=512, languages=("zh",), ids=GTE_IDS, builtin=False)


def registered_families(state_dir: Path) -> list[Family]:
    """All that were registered, by name."""
    names = {file.stem for home in homes(state_dir) for file in _registrations(home).glob("*.json")}
    found = (_registered(name, state_dir) for name in sorted(names, key=str.lower))
    return [family for family in found if family is not None]


def homes(state_dir: Path) -> tuple[Path, ...]:
    """Folders of Xinference: of our own server, and of a stock one of this user."""
    theirs = os.environ.get("XINFERENCE_HOME")
    return state_dir / "xinference", Path(theirs) if theirs else Path.home() / ".xinference"


def cached(name: str, state_dir: Path) -> Path | None:
    """The files of a built-in model that a Xinference of this user has downloaded before.

    A link in their place is no download: Xinference makes it to the folder of a registered model, our stand-in, say,
    and takes it away with the model.
    """
    folders = (home / "cache" / "v2" / f"{name}-pytorch-none" for home in homes(state_dir))
    return next((f for f in folders if not f.is_symlink() and (f / "config.json").is_file()), None)


def resolved(config: Config) -> Config:
    """`config` with path and hubs of its model as the name has them, where nothing else is said.

    What is said of gte-base-zh, as configs/slo.yaml once did, holds for no other name.
    """
    model = config.model
    others = model.name != GTE
    said = {
        "path": None if others and model.path == GTE_PATH else model.path,
        "modelscope_id": None if others and model.modelscope_id == GTE_IDS["modelscope"] else model.modelscope_id,
        "huggingface_id": None if others and model.huggingface_id == GTE_IDS["huggingface"] else model.huggingface_id,
    }
    if None in said.values():
        family = find_family(model.name, config.state_dir)
        known = family or Family(name=model.name, dimensions=0, max_tokens=0)
        usual = {
            "path": known.usual_path,
            "modelscope_id": known.ids.get("modelscope"),
            "huggingface_id": known.ids.get("huggingface"),
        }
        said = {key: usual[key] if value is None else value for key, value in said.items()}
    return config.model_copy(update={"model": model.model_copy(update=said)})


def path_is_given(model: ModelSection) -> bool:
    """Does the configuration insist on a folder? Then its absence is an error."""
    return model.path is not None and model.path != GTE_PATH


def _read_builtin(name: str | None = None) -> Iterator[Family]:
    for record in _records(name):
        ids: dict[str, str] = {}
        for spec in record.get("model_specs") or ():
            if spec.get("model_format") == "pytorch":
                ids = {hub: str(source["model_id"]) for hub, source in (spec.get("model_src") or {}).items()}
                break
        if name in (None, record.get("model_name")):
            yield Family(
                name=str(record["model_name"]), dimensions=int(record["dimensions"]),
                max_tokens=int(record["max_tokens"]), languages=tuple(record.get("language") or ()),
                abilities=tuple(record.get("model_ability") or ()), ids=ids,
                requirements=tuple((record.get("virtualenv") or {}).get("packages") or ()),
            )  # fmt: skip


def _records(name: str | None) -> Iterator[dict[str, Any]]:
    """What Xinference's files say: one per model, or in versions before 4.1 one for all."""
    found = importlib.util.find_spec("xinference")
    if found is None or found.origin is None:
        return
    folder = Path(found.origin).parent / "model" / "embedding"
    split = folder / "models"
    files: Sequence[Path] = (
        (split / f"{name}.json",) if name and (split / f"{name}.json").is_file()
        else sorted(split.glob("*.json")) if split.is_dir()
        else (folder / "model_spec.json",)
    )  # fmt: skip
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
        yield from content


def _registrations(home: Path) -> Path:
    return home / "model" / "v2" / "embedding"


def _registered(name: str, state_dir: Path) -> Family | None:
    for home in homes(state_dir):
        try:
            record = json.loads((_registrations(home) / f"{name}.json").read_text(encoding="utf-8"))
            (spec, *_) = record["model_specs"]
            address = urlsplit(spec.get("model_uri") or "")
            has_files = address.scheme == "file" and address.path and spec.get("model_revision") != STAND_IN_REVISION
            return Family(
                name=name, dimensions=int(record["dimensions"]), max_tokens=int(record["max_tokens"]),
                languages=tuple(record.get("language") or ()), abilities=tuple(record.get("model_ability") or ()),
                directory=Path(unquote(address.path)) if has_files else None,
                builtin=False,
            )  # fmt: skip
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue  # none there, or what Xinference itself passes over
    return None
