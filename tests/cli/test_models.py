"""`slo models`: lists and prunes; a served model's graphs stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slo.cli.main import cli, run
from slo.deploy.standin import write_standin
from slo.serve.engine.loading import Workshop, load


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with two models, of which fp32 graphs were made, the second after the first."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("first", "second"):
        write_standin(folder / name, size="tiny")
        (folder / name / "extra.json").write_text(json.dumps(name), encoding="utf-8")  # another content, another hash
        Workshop(folder / name, folder / "state" / "models").choose("fp32")
    file = folder / "slo.yaml"
    file.write_text(f"state_dir: {folder / 'state'}\nmodel: {{path: {folder / 'first'}, download: false}}\n")
    return file


def report(settings: Path, capfdbinary: pytest.CaptureFixture[bytes], *words: str) -> dict[str, list[dict[str, str]]]:
    assert run(cli, ["models", words[0], "--config", str(settings), "--json", *words[1:]]) == 0
    found: dict[str, list[dict[str, str]]] = json.loads(capfdbinary.readouterr().out)
    return found


def test_the_models_are_listed_and_pruned(settings: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sources = [row["made_from"] for row in report(settings, capfdbinary, "list")["models"]]
    assert sources == [str(settings.parent / "second"), str(settings.parent / "first")]
    assert report(settings, capfdbinary, "prune")["removed"] == [], "far below the bound"
    served = load(settings.parent / "first", settings.parent / "state" / "models", precision="fp32")
    removed = report(settings, capfdbinary, "prune", "--keep", "0")["removed"]
    assert [row["made_from"] for row in removed] == [str(settings.parent / "second")]
    (left,) = report(settings, capfdbinary, "list")["models"]
    assert left["in_use"]
    assert served.runtime.embed(["还在"]).shape == (1, 128)


def test_the_table_says_what_each_is(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["models", "list", "--config", str(settings)]) == 0
    assert "fp32, compiled of" in " ".join(capsys.readouterr().out.split())


def test_a_size_that_is_none_is_an_error(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["models", "prune", "--config", str(settings), "--keep", "lots"]) == 2
    assert "'lots' is not a size" in capsys.readouterr().err


def test_all_names_are_listed_with_who_serves_each(settings: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(cli, ["models", "--config", str(settings), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capfdbinary.readouterr().out)["models"]}
    assert len(rows) == 48, "those of Xinference and gte-base-zh"
    assert (rows["bge-m3"]["engine"], rows["bge-m3"]["builtin"]) == ("openvino", True)
    assert rows["Qwen3-Embedding-0.6B"]["engine"] == "sentence_transformers"
    assert rows["jina-embeddings-v3"]["engine"] is None
    assert "needs" in rows["jina-embeddings-v3"]["reason"]
    assert run(cli, ["models", "--config", str(settings)]) == 0
    said = capfdbinary.readouterr().out.decode()
    assert "jina-embeddings-v3: runs code of its own repository; sentence_transformers needs" in said
    assert "48 models: 24 by openvino, 8 by Xinference's own engines behind the same door, 16 not here" in said
