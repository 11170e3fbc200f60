"""What shall run follows from the configuration, and only real changes count as changes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from slo.config import Config
from slo.deploy.launch_plan import (
    Engine,
    absolute,
    choose_engine,
    differences,
    model_plan,
    server_environment,
    server_settings,
    suited,
)
from slo.deploy.registration import STOCK_ENGINE, description, launch_body, same_model, threads_per_replica
from slo.host import Limits
from slo.model_files import read_model


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound here


@pytest.mark.parametrize(
    ("sections", "stock", "name", "extension"),
    [
        pytest.param({}, True, "sentence_transformers", False, id="stock"),
        pytest.param({"server": {"engine": "vllm"}}, True, "vllm", False, id="stock with another engine"),
        pytest.param({"serve": {"enabled": False}}, False, "sentence_transformers", False, id="extension switched off"),
        pytest.param({"server": {"engine": "flag"}, "serve": {"enabled": False}}, False, "flag", False, id="by name"),
    ],
)
def test_the_engine_is_the_one_asked_for_if_it_can_be(
    sections: dict[str, Any], stock: bool, name: str, extension: bool
) -> None:
    engine = choose_engine(config(**sections), stock=stock)
    assert (engine.name, engine.extension) == (name, extension)


def test_a_fallback_says_why() -> None:
    engine = choose_engine(config(serve={"enabled": False}), stock=False)
    assert engine.reason == "engine sentence_transformers instead of openvino: serve.enabled is off"
    assert choose_engine(config(), stock=True).reason == ""


def test_a_model_that_is_not_for_our_engine_goes_to_xinferences_own(tiny_model: Path, tmp_path: Path) -> None:
    ours, other = Engine(name="openvino", extension=True), Engine(name="flag", extension=True)
    assert suited(ours, tiny_model, tmp_path) == ours
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max"}', encoding="utf-8")
    found = suited(ours, tmp_path / "model", tmp_path)
    assert (found.name, found.extension) == (STOCK_ENGINE, True)
    assert found.reason == "engine sentence_transformers instead of openvino: pooling by max is not supported"
    assert suited(other, tmp_path / "model", tmp_path) == other


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        pytest.param({"a": 1}, {"a": 1}, [], id="nothing"),
        pytest.param({"a": 1}, {"a": 2}, ["a: 1 → 2"], id="a value"),
        pytest.param({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c: 1 → 2"], id="deep inside"),
        pytest.param({}, {"a": 1}, ["a: None → 1"], id="a new setting"),
        pytest.param({"s": {}}, {"s": {"x": 1, "y": 2}}, ["s"], id="a whole section"),
    ],
)
def test_differences_name_the_settings(before: dict[str, Any], after: dict[str, Any], found: list[str]) -> None:
    assert differences(before, after) == found


@pytest.mark.parametrize(
    ("server", "wanted"),
    [
        pytest.param({}, "0", id="loopback"),
        pytest.param({"host": "127.0.0.2"}, "0", id="another loopback address"),
        pytest.param({"host": EVERYWHERE}, "1", id="every address"),
        pytest.param({"auth": "on"}, "1", id="loopback, but asked for"),
        pytest.param({"host": EVERYWHERE, "auth": "off"}, "0", id="open on purpose"),
    ],
)
def test_only_loopback_goes_without_authentication(server: dict[str, Any], wanted: str) -> None:
    chosen = config(server=server)
    settings = server_settings(chosen, Engine(name="x", extension=False), stock=False)
    assert server_environment(chosen, settings, {})["XINFERENCE_AUTH_ADVANCED"] == wanted


def test_the_server_gets_its_settings_and_none_of_our_secrets(tmp_path: Path) -> None:
    chosen = absolute(config(state_dir=tmp_path / "state", serve={"cache": {"max_size": "1MiB"}}))
    settings = server_settings(chosen, Engine(name="openvino", extension=True), stock=False)
    outside = {"PATH": "/bin", "SLO_API_KEY": "s3cret", "SLO_ADMIN_PASSWORD": "s3cret", "SLO_ADMIN_USER": "me"}
    environment = server_environment(chosen, settings, outside)
    assert "s3cret" not in str(environment)
    assert environment["PATH"] == "/bin"
    assert environment["XINFERENCE_HOME"] == str(tmp_path / "state" / "xinference")
    assert environment["XINFERENCE_EXTENSIONS"] == "slo.serve.extension:create"
    assert json.loads(environment["SLO_SERVE_SETTINGS"])["cache"]["max_size"] == 2**20


def test_stock_runs_without_anything_of_ours(tmp_path: Path) -> None:
    chosen = config()
    settings = server_settings(chosen, choose_engine(chosen, stock=True), stock=True)
    environment = server_environment(chosen, settings, {"XINFERENCE_EXTENSIONS": "left.over:create"})
    assert "XINFERENCE_EXTENSIONS" not in environment
    assert "SLO_SERVE_SETTINGS" not in environment


def test_relative_paths_are_fixed_before_the_server_goes_its_own_way() -> None:
    chosen = absolute(config())
    assert chosen.state_dir == Path.cwd() / ".slo"
    assert chosen.server.log == Path.cwd() / "model_server.log"


def test_the_openvino_engine_is_told_precision_threads_and_where_models_lie(tiny_model: Path, tmp_path: Path) -> None:
    plan = model_plan(config(server={"streams": 4}), read_model(tiny_model), Engine(name="openvino", extension=True))
    body = launch_body(plan, tmp_path)
    assert body["slo_streams"] == 4
    assert body["slo_precision"] == "auto"
    assert body["slo_models_dir"] == str(tmp_path)
    assert body["slo_threads"] == threads_per_replica(1)
    assert body["n_gpu"] is None
    assert body["enable_virtual_env"] is False
    assert "envs" not in body


def test_stock_replicas_share_the_cores_instead_of_fighting_for_them(tiny_model: Path, tmp_path: Path) -> None:
    files = read_model(tiny_model)
    one = model_plan(config(), files, Engine(name="sentence_transformers", extension=False))
    two = model_plan(config(server={"replicas": 2}), files, Engine(name="sentence_transformers", extension=False))
    assert "envs" not in launch_body(one, tmp_path), "one replica is left as Xinference would run it"
    assert launch_body(two, tmp_path)["envs"]["OMP_NUM_THREADS"] == str(threads_per_replica(2))
    assert threads_per_replica(2, cores=8) == 4
    assert threads_per_replica(9, cores=2) == 1
    assert differences(one.to_json(), two.to_json())[0] == "replicas: 1 → 2"


def test_a_registration_is_the_same_only_with_the_same_files_dimensions_and_label(tiny_model: Path) -> None:
    files = read_model(tiny_model)
    plan = model_plan(config(), files, Engine(name="openvino", extension=True))
    wanted = description(plan)
    known = {**wanted, "is_builtin": False, "cache_config": None}
    assert same_model(known, wanted)
    assert wanted["model_specs"][0]["model_revision"] == "stand-in-weights"
    assert not same_model({**known, "dimensions": 3}, wanted)
    assert not same_model({**known, "model_description": ""}, wanted)
    assert not same_model({**known, "model_specs": [{**wanted["model_specs"][0], "model_uri": "file:///x"}]}, wanted)


def test_threads_follow_the_setting(tiny_model: Path) -> None:
    engine = Engine(name="sentence_transformers", extension=False)
    plan = model_plan(config(server={"threads": 1}), read_model(tiny_model), engine)
    assert plan.threads == 1
    limited = launch_body(plan, Path("/models")).get("envs", {}).get("OMP_NUM_THREADS")
    assert limited == ("1" if len(os.sched_getaffinity(0)) > 1 else None)


def test_threads_follow_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    visible = len(os.sched_getaffinity(0))
    monkeypatch.setattr("slo.host.limits", lambda: Limits(cores=1.0))
    assert threads_per_replica(1) == 1
    environment = server_environment(Config(), {"auth": False, "extension": False}, {})
    assert environment.get("OMP_NUM_THREADS") == ("1" if visible > 1 else None)
    monkeypatch.setattr("slo.host.limits", Limits)
    assert threads_per_replica(1) == visible
    assert "OMP_NUM_THREADS" not in server_environment(Config(), {"auth": False, "extension": False}, {})
