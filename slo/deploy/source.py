"""
Where the model's files come from: the configured path, a hub, or the stand-in.

Absence of a network is noticed within `PROBE_LIMIT_S`, name resolution included. A download or a stand-in appears
under its final name only when it is whole.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slo.config import ModelSection
from slo.deploy.catalogue import cached, find_family
from slo.deploy.standin import write_standin
from slo.errors import ModelSourceError, RequestError
from slo.files import fresh_tree, private_folder
from slo.http import HttpClient
from slo.model_files import ModelFiles, read_model

PROBE_LIMIT_S = 4.0
# Formats that the engines here never read; they would double the download.
UNWANTED = ["onnx/*", "openvino/*", "*.onnx", "*.msgpack", "*.h5", "*.ot", "*.gguf"]
TWIN = "pytorch_model.bin"  # left out where there are the same weights in the better format


class Hub(Protocol):
    """A place that models are downloaded from."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def reachable(self) -> bool:
        """Does it answer? May take long where name resolution hangs; the caller does not wait for that."""
        ...

    def download(self, directory: Path) -> None:
        """Put all files into `directory`, showing progress."""
        ...


@dataclass(frozen=True, kw_only=True)
class WebHub:
    """ModelScope or Hugging Face, through the client library that Xinference uses, too."""

    name: str
    address: str
    module: str
    model_id: str

    def reachable(self) -> bool:
        try:
            with HttpClient(timeout_s=PROBE_LIMIT_S) as client:
                client.send("HEAD", self.address)
        except RequestError:
            return False
        return True

    def download(self, directory: Path) -> None:
        try:
            # Here and not above: these libraries take seconds to import and most launches need none of them.
            fetch: Any = importlib.import_module(self.module).snapshot_download
            fetch(self.model_id, local_dir=str(directory), ignore_patterns=[*UNWANTED, TWIN])
            if not any(directory.glob("*.safetensors")):
                fetch(self.model_id, local_dir=str(directory), ignore_patterns=UNWANTED)
        except Exception as error:
            raise ModelSourceError(f"{self.name}: {self.model_id}: {error}") from error


def hubs(model: ModelSection) -> list[Hub]:
    """The hubs that are known to have the model, in order."""
    places = (
        ("ModelScope", "https://modelscope.cn", "modelscope", model.modelscope_id),
        ("Hugging Face", "https://huggingface.co", "huggingface_hub", model.huggingface_id),
    )
    return [WebHub(name=name, address=to, module=module, model_id=id_) for name, to, module, id_ in places if id_]


def find(model: ModelSection, models_dir: Path, *, required: bool, say: Callable[[str], None]) -> ModelFiles:
    """The model by the whole order: on disk, from a hub, else the stand-in."""
    files = on_disk(model, models_dir, required=required)
    if files is None and model.download:
        fresh = download(model, models_dir, say, hubs(model))
        files = read_model(fresh) if fresh else None
    return files or stand_in(model, models_dir)


def on_disk(model: ModelSection, models_dir: Path, *, required: bool, here: bool = True) -> ModelFiles | None:
    """The model at the configured path, or one downloaded earlier, by us or by Xinference; None if there is none.

    What Xinference has downloaded on this machine does not count for a server elsewhere (`here`). With `required` a
    missing directory is an error. Damaged files always are: nothing is silently put in their place.
    """
    if model.path is not None and (required or model.path.is_dir()):
        return read_model(model.path)
    downloaded = models_dir / model.name
    if downloaded.is_dir():
        return read_model(downloaded)
    theirs = cached(model.name, models_dir.parent) if here else None
    return read_model(theirs) if theirs else None


def download(model: ModelSection, models_dir: Path, say: Callable[[str], None], hubs: Sequence[Hub]) -> Path | None:
    """The directory of a fresh download from the first hub that has the model; None if no hub could be used."""
    answering = _answering(hubs)
    if not answering and hubs:
        say(f"no network: {' and '.join(hub.name for hub in hubs)} do not answer")
    for hub in answering:
        say(f"downloading {model.name} from {hub.name}")
        private_folder(models_dir)
        try:
            with fresh_tree(models_dir / model.name) as fresh:
                hub.download(fresh)
                read_model(fresh)
            return models_dir / model.name
        except ModelSourceError as error:
            say(f"download failed: {error.message}")
    return None


def _answering(hubs: Sequence[Hub]) -> list[Hub]:
    """Those that answer within the limit, asked side by side. A thread stuck in name resolution is left behind."""
    answers: dict[str, bool] = {}
    threads = [
        threading.Thread(target=lambda hub=hub: answers.update({hub.name: hub.reachable()}), daemon=True)
        for hub in hubs
    ]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + PROBE_LIMIT_S + 0.5
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    return [hub for hub in hubs if answers.get(hub.name)]


def stand_in_directory(model: ModelSection, models_dir: Path) -> Path:
    """Where the stand-in lies or will lie. Raises `ModelSourceError` where the configuration forbids one."""
    if model.stand_in == "off":
        raise ModelSourceError(
            f"{model.path}: no such model directory, and model.stand_in is off",
            hint="give the folder with --model-path, or a network to download from",
        )
    family = find_family(model.name, models_dir.parent)
    if family is not None and family.builtin:
        raise ModelSourceError(
            f"{model.path}: no such model directory, and a stand-in would not have the size of {model.name}",
            hint="give the folder with --model-path, or a network to download from",
        )
    return models_dir / f"stand-in-{model.stand_in}"


def stand_in(model: ModelSection, models_dir: Path) -> ModelFiles:
    """The stand-in, written now if it is not there yet."""
    directory = stand_in_directory(model, models_dir)
    assert model.stand_in != "off"  # noqa: S101 - stand_in_directory has refused that
    if directory.is_dir():
        try:
            return read_model(directory)
        except ModelSourceError:
            pass  # ours, and reproducible: damaged ones are written again
    try:
        write_standin(directory, size=model.stand_in)
    except OSError as error:
        raise ModelSourceError(
            f"{directory}: the stand-in model cannot be written: {error.strerror}", hint="free some space there"
        ) from error
    return read_model(directory)
