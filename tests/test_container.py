"""The image's and Compose's files agree with the code: names of settings, versions, what the services run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "container"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
SLO = Path(sys.executable).with_name("slo")


def variables() -> set[str]:
    text = subprocess.run([SLO, "validate", "--variables"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {line.split("=")[0] for line in text.splitlines()}


def test_every_setting_that_is_given_exists() -> None:
    given = set(re.findall(r"\bSLO_[A-Z_]+\b", re.sub(r"(?m)^\s*#.*$", "", DOCKERFILE + COMPOSE)))
    assert {"SLO_SERVER_HOST", "SLO_SERVER_ENDPOINT", "SLO_STATE_DIR"} <= given
    assert given - variables() == set()


def test_what_is_copied_is_there_and_let_through() -> None:
    copied = {word for line in re.findall(r"(?m)^COPY (.*) \S+$", DOCKERFILE) for word in line.split()}
    ignore = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {"slo", "requirements.lock", "docs/runbook.md"} <= copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert any(Path(name).match(line[1:]) for line in ignore if line.startswith("!")), f"{name} is ignored"


def test_what_the_wheel_is_made_of_is_copied() -> None:
    included = re.findall(r'(?m)^"((?:configs|docs)/[^"]+)" = ', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert included
    for name in included:
        assert re.search(rf"(?m)^COPY .*\b({re.escape(name)}|{name.split('/')[0]}) ", DOCKERFILE), (
            f"{name} is not in the image"
        )


def test_the_installer_is_the_one_that_made_the_lock() -> None:
    install = (ROOT / "scripts" / "install.sh").read_text(encoding="utf-8")
    (version,) = re.findall(r"(?m)^uv_version=(\S+)$", install)
    assert f"ARG UV_VERSION={version}\n" in DOCKERFILE


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", ["server", "watch", "exports", "prometheus", "alertmanager", "grafana"])
def test_a_service_keeps_its_state_in_the_volume_and_does_not_run_as_root(name: str) -> None:
    service = SERVICES[name]
    assert any(volume.startswith("state:/var/lib/xinference-slo") for volume in service["volumes"])
    assert service.get("user") == "10001:0" or (
        service["image"] == "xinference-slo" and "\nUSER 10001:0\n" in DOCKERFILE
    )


def test_the_exports_are_what_prometheus_alertmanager_and_grafana_are_told_to_read(tmp_path: Path) -> None:
    service, key = SERVICES["exports"], tmp_path / "api_key"
    key.write_text("sk-1\n", encoding="utf-8")
    key.chmod(0o600)
    environ = {**os.environ, **service["environment"], "PATH": f"{SLO.parent}{os.pathsep}{os.environ['PATH']}"}
    environ |= {"SLO_CLIENT_API_KEY_FILE": str(key), "SLO_STATE_DIR": str(tmp_path / "watch")}
    subprocess.run(["sh", "-ec", *service["command"]], cwd=tmp_path, env=environ, check=True, capture_output=True)

    told = [*SERVICES["prometheus"]["command"], *SERVICES["alertmanager"]["command"]]
    told += SERVICES["grafana"]["environment"].values()
    for path in re.findall(r"/var/lib/xinference-slo/([\w./-]+)", " ".join(told)):
        assert (tmp_path / path).exists(), path
    prometheus = yaml.safe_load((tmp_path / "exports" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["server:9997"]}]
    assert job["authorization"]["credentials_file"] == str(key)
    sources = next((tmp_path / "exports" / "provisioning" / "datasources").iterdir()).read_text(encoding="utf-8")
    assert "http://prometheus:9090" in sources
    dashboards = next((tmp_path / "exports" / "provisioning" / "dashboards").iterdir()).read_text(encoding="utf-8")
    assert "/var/lib/xinference-slo/exports/dashboards" in dashboards
    assert json.loads((tmp_path / "exports" / "dashboards" / "xinference-slo.json").read_text(encoding="utf-8"))
