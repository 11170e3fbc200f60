"""`slo export`: product on stdout or in files, and the set in `configs/generated` is what it writes today."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slo.cli.main import cli, run
from tests.real_servers import program
from tests.real_servers import run as tool

GENERATED = Path(__file__).parents[2] / "configs" / "generated"
FORMATS = ("prometheus", "alertmanager", "openslo", "grafana")


def test_the_generated_set_is_current(tmp_path: Path) -> None:
    config = str(GENERATED.parent / "slo.yaml")
    for product in FORMATS:
        assert run(cli, ["export", product, "--config", config, "--out", str(tmp_path)]) == 0
    written = {path.relative_to(tmp_path): path.read_text(encoding="utf-8") for path in _files(tmp_path)}
    kept = {path.relative_to(GENERATED): path.read_text(encoding="utf-8") for path in _files(GENERATED)}
    assert kept.keys() == written.keys()
    for name, text in written.items():
        again = "for f in prometheus alertmanager openslo grafana; do slo export $f --out configs/generated; done"
        assert kept[name] == text, f"configs/generated/{name} is out of date → {again}"


def test_promtool_and_amtool_accept_the_generated_set() -> None:
    for command in (
        (program("promtool"), "check", "config", "prometheus.yml"),
        (program("promtool"), "check", "rules", "xinference-slo.rules.yml"),
        (program("promtool"), "test", "rules", "xinference-slo.rules.test.yml"),
        (program("amtool"), "check-config", "alertmanager.yml"),
    ):
        checked = tool(*command, folder=GENERATED)
        assert checked.returncode == 0, checked.stdout


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", [*FORMATS, "systemd", "cron"])
def test_the_product_goes_to_stdout(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["export", name]) == 0
    said = capsys.readouterr()
    assert len(said.out) > 200
    assert said.err == ""


def test_the_model_of_the_configuration_is_the_one_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "slo.yaml"
    config.write_text("objective: p99 <= 300ms\nmodel: {name: bge-m3}\n", encoding="utf-8")
    assert run(cli, ["export", "prometheus", "--config", str(config)]) == 0
    text = capsys.readouterr().out
    assert 'model="bge-m3",length_class!="batch",code="2xx",le="0.3"' in text
    assert "gte-base-zh" not in text
    assert yaml.safe_load(text)["groups"][0]["name"] == "sloth-slo-sli-recordings-bge-m3-latency"


def test_the_key_of_a_server_with_authentication_stays_in_its_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-very-secret", encoding="utf-8")
    config = tmp_path / "slo.yaml"
    config.write_text(
        f"server: {{endpoint: 'https://slo.example/prefix'}}\nclient: {{api_key_file: {key}}}\n", encoding="utf-8"
    )
    assert run(cli, ["export", "prometheus", "--config", str(config), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "prometheus.yml").read_text(encoding="utf-8")
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["authorization"] == {"type": "Bearer", "credentials_file": str(key)}
    assert (job["scheme"], job["metrics_path"]) == ("https", "/prefix/slo/metrics")
    assert job["static_configs"] == [{"targets": ["slo.example"]}]
    assert "sk-very-secret" not in text


def test_any_threshold_can_be_exported_since_the_server_has_an_edge_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "slo.yaml"
    config.write_text("objective: p95 <= 123.4567ms\n", encoding="utf-8")
    assert run(cli, ["export", "prometheus", "--config", str(config)]) == 0
    assert 'le="0.1234567"' in capsys.readouterr().out


def test_an_openslo_file_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["export", "openslo", "--out", str(tmp_path)]) == 0
    assert run(cli, ["export", "openslo", "--read", str(tmp_path / "openslo.yml")]) == 0
    assert "gte-base-zh: P95 ≤ 150 ms, target 0.95, 30 days" in capsys.readouterr().out
