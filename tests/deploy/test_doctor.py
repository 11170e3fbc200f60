"""Each check passes, warns or fails by the facts alone, and says what to do."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from safetensors.numpy import load_file, save_file

from slo.config import Config
from slo.deploy import checks, doctor
from slo.deploy import machine as machines
from slo.deploy.checks import Level
from slo.deploy.machine import Machine, cpu_flags, free_port, port_taken, this_machine, unwritable, unwritable_file
from slo.deploy.standin import write_standin
from slo.deploy.state import ServerState
from slo.errors import EnvironmentProblem
from slo.model_files import ModelFiles, read_model
from slo.serve.engine.loading import Workshop, load

GIB = 2**30

GOOD = Machine(
    system="Linux",
    python=(3, 11),
    architecture="x86_64",
    cpu_flags=frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}),
    cores=4,
    core_limit=None,
    memory_available_bytes=16 * GIB,
    memory_limit_bytes=None,
    versions={
        "xinference": "4.1.0",
        "torch": "2.15.0",
        "torchvision": "0.29.2",
        "transformers": "5.17.0",
        "sentence-transformers": "6.2.0",
        "openvino": "2026.4.1",
        "uvloop": "0.23.0",
    },
    torchvision_wants=">=2.14.0",
)


def with_versions(**versions: str | None) -> Machine:
    return dataclasses.replace(GOOD, versions={**GOOD.versions, **versions})


def machine(**changes: Any) -> Machine:
    return dataclasses.replace(GOOD, **changes)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate(
        {
            "state_dir": tmp_path / "state",
            "server": {"log": tmp_path / "server.log", "port": free_port("127.0.0.1")},
            "model": {"path": tmp_path / "nowhere", "stand_in": "tiny"},
        }
    )


@pytest.mark.parametrize(
    ("found", "name", "level", "words"),
    [
        pytest.param(GOOD, "xinference", Level.PASS, "4.1.0", id="all is well"),
        pytest.param(with_versions(xinference="4.2.0"), "xinference", Level.FAIL, "4.1.0 only", id="newer xinference"),
        pytest.param(with_versions(xinference=None), "xinference", Level.FAIL, "not installed", id="no xinference"),
        pytest.param(machine(python=(3, 13)), "python", Level.FAIL, "3.13", id="python too new"),
        pytest.param(machine(python=(3, 9)), "python", Level.FAIL, "3.9", id="python too old"),
        pytest.param(machine(system="Darwin"), "system", Level.FAIL, "Darwin", id="not Linux"),
        pytest.param(
            with_versions(torch="2.15.0+cpu"), "torch", Level.FAIL, "import transformers", id="CPU torch, CUDA vision"
        ),
        pytest.param(
            with_versions(torch="2.15.0+cpu", torchvision="0.29.2+cpu"), "torch", Level.PASS, "", id="both for CPU"
        ),
        pytest.param(with_versions(torch="2.4.0"), "torch", Level.FAIL, "0.29.2", id="torch older than vision wants"),
        pytest.param(with_versions(torchvision=None), "torch", Level.PASS, "2.15.0", id="no torchvision"),
        pytest.param(with_versions(transformers=None), "torch", Level.FAIL, "transformers", id="no transformers"),
    ],
)
def test_software_is_checked_by_its_metadata(found: Machine, name: str, level: Level, words: str) -> None:
    check = next(check for check in doctor.check_software(found) if check.name == name)
    assert check.level is level
    assert words in check.value
    assert bool(check.fix) == (level is not Level.PASS)


@pytest.mark.parametrize(
    ("flags", "architecture", "level", "words"),
    [
        pytest.param({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}, "x86_64", Level.PASS, "VNNI", id="Zen 4"),
        pytest.param({"avx2", "avx512f", "avx512_vnni", "amx_int8"}, "x86_64", Level.PASS, "AMX", id="Sapphire Rapids"),
        pytest.param({"avx2", "avx_vnni"}, "x86_64", Level.PASS, "VNNI", id="a laptop"),
        pytest.param({"avx2"}, "x86_64", Level.WARN, "no int8", id="Haswell"),
        pytest.param({"sse4_2"}, "x86_64", Level.WARN, "AVX2 missing", id="older still"),
        pytest.param({"asimd", "i8mm", "bf16"}, "aarch64", Level.PASS, "I8MM", id="Graviton"),
        pytest.param(set(), "aarch64", Level.WARN, "no vector extensions", id="nothing known"),
    ],
)
def test_the_processor_is_judged_by_its_number_formats(
    flags: set[str], architecture: str, level: Level, words: str
) -> None:
    check = checks.check_cpu(machine(cpu_flags=frozenset(flags), architecture=architecture), "openvino")
    assert check.level is level
    assert words in check.value


@pytest.mark.parametrize(
    ("facts", "replicas", "level"),
    [
        pytest.param({"cores": 1}, 1, Level.WARN, id="one core"),
        pytest.param({"core_limit": 1.5}, 1, Level.WARN, id="a container with one and a half"),
        pytest.param({"cores": 2}, 4, Level.WARN, id="more replicas than cores"),
        pytest.param({"cores": 4}, 4, Level.PASS, id="a core each"),
    ],
)
def test_cores_are_compared_with_replicas(facts: dict[str, Any], replicas: int, level: Level) -> None:
    assert checks.check_cores(machine(**facts), replicas).level is level


def test_more_threads_than_cores_are_pointed_out() -> None:
    assert checks.check_cores(machine(cores=8, core_limit=4.0), 2, 2).level is Level.PASS
    check = checks.check_cores(machine(cores=8, core_limit=4.0), 2, 3)
    assert check.level is Level.WARN
    assert "6 threads" in check.value


def test_memory_that_is_used_up_is_none_at_all() -> None:
    assert machine(memory_available_bytes=10**10, memory_limit_bytes=0).memory_bytes == 0


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        pytest.param(machine(gpus=("NVIDIA H100",)), Level.PASS, "NVIDIA H100", id="a card"),
        pytest.param(machine(), Level.FAIL, "no card", id="no card or no driver"),
        pytest.param(
            dataclasses.replace(with_versions(torch="2.15.0+cpu"), gpus=("NVIDIA H100",)),
            Level.FAIL, "processors only", id="a torch that cannot",
        ),
        pytest.param(with_versions(torch="2.15.0+rocm7.1"), Level.PASS, "rocm", id="AMD, which NVIDIA does not know"),
    ],
)  # fmt: skip
def test_a_gpu_must_be_there_when_one_is_asked_for(found: Machine, level: Level, words: str) -> None:
    (check,) = checks.check_gpu(found, "cuda")
    assert check.level is level
    assert words in check.value
    assert bool(check.fix) == (level is not Level.PASS)
    assert checks.check_gpu(found, "cpu") == []


@pytest.mark.parametrize(
    ("available", "limit", "replicas", "level"),
    [
        pytest.param(16 * GIB, None, 1, Level.PASS, id="plenty"),
        pytest.param(1 * GIB, None, 1, Level.FAIL, id="a small machine"),
        pytest.param(16 * GIB, 1 * GIB, 1, Level.FAIL, id="a small container on a large machine"),
        pytest.param(4 * GIB, None, 1, Level.WARN, id="tight"),
        pytest.param(3 * GIB, None, 8, Level.FAIL, id="too many replicas"),
    ],
)
def test_memory_is_compared_with_what_replicas_take(
    config: Config, available: int, limit: int | None, replicas: int, level: Level
) -> None:
    found = machine(memory_available_bytes=available, memory_limit_bytes=limit)
    check = checks.check_memory(found, config.replaced(**{"server.replicas": replicas}), None)
    assert check.level is level, check


def test_failed_checks_become_one_error_with_every_fix(config: Config) -> None:
    found = dataclasses.replace(GOOD, python=(3, 13), memory_available_bytes=GIB)
    with pytest.raises(EnvironmentProblem, match=r"python: 3\.13; memory: not enough") as caught:
        doctor.require(doctor.examine(config, found, None))
    assert "fewer replicas" in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_a_good_machine_passes_every_check(config: Config) -> None:
    doctor.require(doctor.examine(config, GOOD, None))


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_names_the_program_that_has_it(config: Config, listening: int) -> None:
    check = doctor.check_port(config.replaced(**{"server.port": listening}), None)
    assert check.level is Level.FAIL
    assert f"port {listening} is taken by pid {os.getpid()}" in check.value


def test_a_foreign_address_cannot_be_listened_on() -> None:
    assert "cannot be listened on" in (port_taken("192.0.2.1", 9997) or "")
    assert "not an address" in (port_taken("no.such.host.invalid", 9997) or "")


def test_places_that_cannot_be_written_are_known_without_trying(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert unwritable(tmp_path / "a" / "b") is None
    assert "is a file" in (unwritable(tmp_path / "file" / "state") or "")
    assert unwritable(Path("/proc/slo")) is not None
    assert unwritable_file(tmp_path / "new.log") is None
    assert "is a folder" in (unwritable_file(tmp_path) or "")
    assert not (tmp_path / "a").exists()


def test_processor_flags_are_read_on_both_architectures() -> None:
    assert cpu_flags(["processor\t: 0", "flags\t\t: fpu avx2"]) == {"fpu", "avx2"}
    assert cpu_flags(["Features\t: asimd i8mm"]) == {"asimd", "i8mm"}
    assert cpu_flags([]) == frozenset()


def test_this_machine_can_be_looked_at() -> None:
    found = this_machine()
    assert found.cores >= 1
    assert found.memory_bytes > 0
    assert found.versions["xinference"] == doctor.XINFERENCE


@pytest.mark.parametrize(("limit", "level"), [(None, Level.PASS), (65536, Level.PASS), (1024, Level.WARN)])
def test_a_low_limit_of_open_files_is_told(limit: int | None, level: Level) -> None:
    check = checks.check_open_files(machine(open_files=limit))
    assert check.level is level
    assert ("LimitNOFILE" in check.fix) == (level is Level.WARN)


def disk(config: Config, files: ModelFiles | None, free: int, monkeypatch: pytest.MonkeyPatch, **own: Any) -> Level:
    monkeypatch.setattr(machines, "free_bytes", lambda _: free)
    return doctor.check_disk(config, files, cast("ServerState", SimpleNamespace(**own)) if own else None).level


@pytest.fixture
def openvino(config: Config, tiny_model: Path) -> Config:
    return config.replaced(**{"model.path": tiny_model, "server.precision": "int8"})


def test_a_full_disk_forbids_only_what_has_to_be_written(
    openvino: Config, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = read_model(tiny_model)
    to_write = doctor.missing_bytes(openvino, files)
    assert to_write > 2 * files.fp32_bytes, "fp32 and int8 graphs, and compiled kernels of two graphs"
    one_stream = openvino.replaced(**{"server.streams": 1})
    assert doctor.missing_bytes(one_stream, files) < to_write - 0.3 * files.fp32_bytes
    assert disk(openvino, files, to_write - 1, monkeypatch) is Level.FAIL
    assert disk(openvino, files, to_write, monkeypatch) is Level.WARN, "no room for the log"
    assert disk(openvino, files, to_write + doctor.LOG_BYTES, monkeypatch) is Level.PASS
    Workshop(tiny_model, openvino.state_dir / "models").choose("int8")
    assert doctor.missing_bytes(openvino, files) < to_write / 2, "compiled by the first start"
    load(tiny_model, openvino.state_dir / "models", precision="int8")
    assert doctor.missing_bytes(openvino, files) == 0
    assert disk(openvino, files, 0, monkeypatch) is Level.WARN


def test_a_server_that_serves_has_all_it_needs(
    openvino: Config, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an earlier version made the graphs and left no note."""
    model = {"directory": str(tiny_model), "precision": "int8"}
    assert disk(openvino, read_model(tiny_model), 0, monkeypatch, alive=True, model=model) is Level.WARN
    assert disk(openvino, read_model(tiny_model), 0, monkeypatch, alive=False, model=model) is Level.FAIL
    model["precision"] = "fp32"
    assert disk(openvino, read_model(tiny_model), 0, monkeypatch, alive=True, model=model) is Level.FAIL


def test_a_stand_in_that_is_there_is_not_to_be_written(config: Config) -> None:
    before = doctor.missing_bytes(config, None)
    write_standin(config.state_dir / "models" / "stand-in-tiny", size="tiny")
    assert before - doctor.missing_bytes(config, None) == checks.STAND_IN_BYTES["tiny"]


def test_weights_stored_in_half_precision_are_counted_as_they_will_be_written(tiny_model: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(tiny_model, half)
    weights = load_file(half / "model.safetensors")
    save_file({name: value.astype("f2") for name, value in weights.items()}, half / "model.safetensors")
    assert read_model(half).fp32_bytes == read_model(tiny_model).fp32_bytes
    assert read_model(half).weight_bytes < 0.6 * read_model(half).fp32_bytes
