"""Manifests: as written down in `tests/golden/kubernetes`, accepted by the schemas, of one piece with each other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from slo.cli.main import cli
from slo.cli.main import run as slo
from slo.config import Config
from slo.errors import ConfigError
from slo.report.kubernetes import PodPlan, manifests
from tests.real_servers import run
from tests.report.promises import AVAILABLE, P95

GOLDEN = Path(__file__).parents[1] / "golden" / "kubernetes"
AT = PodPlan(
    name="embeddings", image="registry.example/slo:0.1.0", model="gte-base-zh",
    settings={"model": {"path": "/models", "download": False}, "server": {"auth": "off", "restart": False}},
    model_claim="models", most=6, prometheus="http://prometheus-operated.monitoring:9090",
)  # fmt: skip


def made(at: PodPlan = AT) -> dict[str, str]:
    return manifests(at, [P95, AVAILABLE], runbook="https://wiki/runbook")


def read(at: PodPlan = AT) -> dict[str, dict[str, Any]]:
    found = (yaml.safe_load(text) for text in made(at).values())
    return {manifest["kind"]: manifest for manifest in found}


@pytest.mark.parametrize("name", sorted(made()))
def test_a_manifest_is_as_written_down(name: str) -> None:
    assert made()[name] == (GOLDEN / name).read_text(encoding="utf-8")


def test_the_schemas_accept_them(tmp_path: Path) -> None:
    validate = shutil.which("kubernetes-validate")
    for name, text in made().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        if validate is not None:  # need not be installed; the golden files above hold what it accepted
            said = run(validate, "--strict", str(tmp_path / name))
            assert said.returncode == 0, said.stdout
    assert len(made()) == 8


def test_service_monitor_budget_and_policy_are_about_the_pods_that_are_made() -> None:
    found = read()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"] == labels
    for kind in ("ServiceMonitor", "PodDisruptionBudget"):
        assert found[kind]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert found["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert found["Service"]["metadata"]["labels"] == labels, "by which the monitor finds it"


def test_nothing_but_the_api_is_reachable_from_other_pods() -> None:
    found = read()
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    (rule,) = found["NetworkPolicy"]["spec"]["ingress"]
    assert [allowed["port"] for allowed in rule["ports"]] == [port["name"]]


def test_a_number_of_pods_is_given_unless_they_are_scaled() -> None:
    assert "replicas" not in read()["Deployment"]["spec"]
    fixed = read(replace(AT, most=0, replicas=3))
    assert fixed["Deployment"]["spec"]["replicas"] == 3
    assert "ScaledObject" not in fixed


def test_the_files_come_from_a_claim_a_folder_of_the_node_or_the_image() -> None:
    def volumes(at: PodPlan) -> list[str]:
        found = read(at)["Deployment"]["spec"]["template"]["spec"]["volumes"]
        return [kind for volume in found for kind in volume if kind != "name"]

    assert volumes(AT) == ["configMap", "emptyDir", "persistentVolumeClaim"]
    assert volumes(replace(AT, model_claim="", model_folder="/data")) == ["configMap", "emptyDir", "hostPath"]
    assert volumes(replace(AT, model_claim="")) == ["configMap", "emptyDir"]


@pytest.mark.parametrize(
    "odd", [{"name": "Big_Name"}, {"most": 1}, {"prometheus": ""}, {"replicas": 0}], ids=lambda odd: next(iter(odd))
)
def test_what_cannot_be_run_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(AT, **odd)


def test_the_command_writes_the_configuration_for_a_pod(tmp_path: Path) -> None:
    file, out = tmp_path / "slo.yaml", tmp_path / "k8s"
    file.write_text("model: {name: bge-m3, uid: embeddings}\nobjective: p99 <= 300ms\n", encoding="utf-8")
    words = ["export", "kubernetes", "--config", str(file), "--image", "x:1", "--out", str(out), "--model-folder", "/m"]
    assert slo(cli, words) == 0
    text = yaml.safe_load((out / "10-config.yaml").read_text(encoding="utf-8"))["data"]["slo.yaml"]
    config = Config.model_validate(yaml.safe_load(text))
    assert (config.model.name, config.model.id, str(config.model.path)) == ("bge-m3", "embeddings", "/models")
    assert (config.server.host, config.server.auth, config.server.restart) == ("0.0.0.0", "off", False)  # noqa: S104
    assert config.objective == "p99 <= 300ms"
    assert "service: embeddings" in (out / "70-rules.yaml").read_text(encoding="utf-8")


def test_keys_that_each_pod_would_make_for_itself_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text("server: {auth: on}\n", encoding="utf-8")
    assert slo(cli, ["export", "kubernetes", "--config", str(file), "--image", "x:1"]) == 2
    assert "server.auth" in capsys.readouterr().err
