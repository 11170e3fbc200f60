"""
Can this machine run the server? A list of checks, each with what was found and what to do about it.

`fail` means that a launch cannot succeed; `warn` that it can, but slower or less safely than it could.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from slo.config import Config
from slo.deploy import machine as machines
from slo.deploy.catalogue import resolved
from slo.deploy.checks import (
    MIB,
    STAND_IN_BYTES,
    Check,
    Level,
    check_cores,
    check_cpu,
    check_gpu,
    check_memory,
    check_open_files,
)
from slo.deploy.machine import Machine
from slo.deploy.registration import OPENVINO
from slo.deploy.state import ServerState, processes_of, read_state
from slo.errors import EnvironmentProblem, ModelSourceError, StoreError
from slo.model_files import ModelFiles, read_model
from slo.model_store import parts_made
from slo.units import show_bytes

XINFERENCE = "4.1.0"
LOG_BYTES = 100 * MIB
# Measured shares of the weights in fp32: graphs, and kernels compiled for this CPU, of each graph.
INT8_SHARES = {"fp32": 1.0, "int8": 0.3, "compiled": 0.4}
FP32_SHARES = {"fp32": 1.0, "compiled": 1.0}


def examine(
    config: Config, machine: Machine, files: ModelFiles | None, *, own: ServerState | None = None
) -> list[Check]:
    """All checks that need no model directory to exist. `files` are the model's, if known; `own` is our server."""
    running = own is not None and own.alive
    return [
        *check_software(machine),
        check_cpu(machine, config.server.engine if config.server.device == "cpu" else ""),
        check_cores(machine, config.server.replicas, config.server.threads),
        *check_gpu(machine, config.server.device),
        # A running server has its memory and its port already.
        *([] if running else [check_memory(machine, config, files)]),
        check_disk(config, files, own),
        check_open_files(machine),
        check_writable("state", machines.unwritable(config.state_dir), f"{config.state_dir}", "state_dir"),
        check_private(config.state_dir),
        check_writable("log", machines.unwritable_file(config.server.log), f"{config.server.log}", "server.log"),
        check_port(config, own),
    ]


def diagnose(config: Config, machine: Machine) -> list[Check]:
    """Everything that `slo doctor` shows: `examine` and the model's files."""
    config = resolved(config)
    model = check_model(config)
    files = None
    try:
        own = read_state(config.state_dir)
        state = []
    except StoreError as error:
        own, state = None, [Check("state record", Level.FAIL, error.message, error.hint or "")]
    if model.level is Level.PASS:
        assert config.model.path is not None  # noqa: S101 - just found
        files = read_model(config.model.path)
    return [*examine(config, machine, files, own=own), *state, model]


def require(checks: Sequence[Check]) -> None:
    """Raise `EnvironmentProblem` for the failed checks, if any."""
    failed = [check for check in checks if check.level is Level.FAIL]
    if failed:
        message = "; ".join(f"{check.name}: {check.value}" for check in failed)
        raise EnvironmentProblem(message, hint="; ".join(check.fix for check in failed if check.fix) or None)


def check_software(machine: Machine) -> list[Check]:
    """Python, the exact Xinference, and a torch that torchvision and transformers can live with."""
    python = "{}.{}".format(*machine.python)
    found = machine.versions["xinference"]
    if found is None:
        xinference = Check("xinference", Level.FAIL, "not installed", f"pip install xinference=={XINFERENCE}")
    elif found != XINFERENCE:
        problem = f"{found}, but this toolkit works with {XINFERENCE} only: it uses Xinference's internals"
        xinference = Check("xinference", Level.FAIL, problem, f"pip install xinference=={XINFERENCE}")
    else:
        xinference = Check("xinference", Level.PASS, found)
    return [
        Check("system", Level.PASS, machine.system)
        if machine.system == "Linux"
        else Check("system", Level.FAIL, machine.system, "run the server on Linux"),
        Check("python", Level.PASS, python)
        if (3, 10) <= machine.python < (3, 13)
        else Check("python", Level.FAIL, python, "use Python 3.10, 3.11 or 3.12"),
        xinference,
        check_torch(machine),
    ]


def check_torch(machine: Machine) -> Check:
    """A torchvision built for another torch breaks `import transformers` with a message that names neither."""
    torch, vision = machine.versions["torch"], machine.versions["torchvision"]
    missing = [name for name in ("torch", "transformers", "sentence-transformers") if machine.versions[name] is None]
    if missing or torch is None:
        return Check("torch", Level.FAIL, f"{', '.join(missing)} not installed", f"pip install {' '.join(missing)}")
    value = f"{torch}, transformers {machine.versions['transformers']}"
    if vision is None:
        return Check("torch", Level.PASS, value)
    builds = [Version(version).local for version in (torch, vision)]
    try:
        fits = SpecifierSet(machine.torchvision_wants or "").contains(Version(torch).public, prereleases=True)
    except InvalidSpecifier:
        fits = True
    if not fits or builds[0] != builds[1]:
        return Check(
            "torch",
            Level.FAIL,
            f"torch {torch} beside torchvision {vision}: `import transformers` will fail",
            "install both from one index, or remove torchvision: nothing here needs it",
        )
    return Check("torch", Level.PASS, f"{value}, torchvision {vision}")


def missing_bytes(config: Config, files: ModelFiles | None, own: ServerState | None = None) -> int:
    """Bytes still to be written before the model can serve: a stand-in's weights, and the graphs of our engine."""
    models_dir = config.state_dir / "models"
    directory = files.directory if files else models_dir / f"stand-in-{config.model.stand_in}"
    fp32 = files.fp32_bytes if files else STAND_IN_BYTES[config.model.stand_in]
    weights = 0 if files or (directory / "model.safetensors").is_file() else fp32
    if config.server.engine != OPENVINO or config.server.device != "cpu":
        return weights
    precision = config.server.precision
    if (
        own is not None
        and own.alive
        and {"directory": str(directory), "precision": precision}.items() <= own.model.items()
    ):
        return weights  # it serves with them, whatever is recorded beside them
    made = set() if weights else parts_made(models_dir, directory)
    shares = dict(INT8_SHARES if precision in ("auto", "int8") else FP32_SHARES)
    if config.server.streams > 1:  # a graph more, see server.streams
        shares["compiled"] *= 2
    return weights + round(sum(share * fp32 for part, share in shares.items() if part not in made))


def check_disk(config: Config, files: ModelFiles | None, own: ServerState | None = None) -> Check:
    """Space for what has to be made, and for the log. A full disk must not forbid a repair that writes nothing."""
    missing = missing_bytes(config, files, own)
    available = machines.free_bytes(config.state_dir)
    value = f"{show_bytes(available)} free at {config.state_dir}"
    fix = "free some (`slo models prune` removes graphs not in use), or set state_dir to another disk"
    if available < missing:
        return Check("disk", Level.FAIL, f"not enough: {value}, {show_bytes(missing)} still to be written", fix)
    if available < missing + LOG_BYTES:
        return Check("disk", Level.WARN, f"{value}: little room for the log", fix)
    return Check("disk", Level.PASS, f"{value}, {show_bytes(missing + LOG_BYTES)} needed")


def check_private(state_dir: Path) -> Check:
    """Folders that earlier versions have made are open to everybody; they stay as they are."""
    if not state_dir.is_dir() or not state_dir.stat().st_mode & 0o077:
        return Check("privacy", Level.PASS, f"{state_dir} is for its owner alone")
    return Check(
        "privacy", Level.WARN, f"{state_dir} can be read by other users of this machine", f"chmod 700 {state_dir}"
    )


def check_writable(name: str, problem: str | None, value: str, setting: str) -> Check:
    """Can we write there?"""
    if problem:
        return Check(name, Level.FAIL, f"{value}: {problem}", f"set {setting} to a place that you may write to")
    return Check(name, Level.PASS, value)


def check_port(config: Config, own: ServerState | None) -> Check:
    """Free, ours, or whose?"""
    host, port = config.server.host, config.server.port
    if config.server.endpoint:
        return Check("port", Level.PASS, f"not needed: {config.server.endpoint} is someone else's server")
    problem = machines.port_taken(host, port)
    if problem is None:
        return Check("port", Level.PASS, f"{host}:{port} is free")
    if not problem.endswith("taken"):
        return Check("port", Level.FAIL, problem, "set server.host and server.port, or give --host and --port")
    holder = machines.listener(port)
    if holder is not None and own is not None and holder.pid in {p.pid for p in processes_of(own.instance)}:
        return Check("port", Level.PASS, f"{host}:{port} is our server's (pid {holder.pid})")
    who = f"pid {holder.pid}, {machines.program_of(holder)}" if holder else "a program of another user"
    return Check("port", Level.FAIL, f"{problem} by {who}", "stop that program, or give another --port")


def check_model(config: Config) -> Check:
    """Are the configured model's files there and whole?"""
    path = resolved(config).model.path
    assert path is not None  # noqa: S101 - just found
    if not path.is_dir():
        plan = "a download will be tried, else " if config.model.download else ""
        if config.model.stand_in == "off":
            return Check("model", Level.FAIL, f"{path}: no such model directory", "give one with --model-path")
        return Check("model", Level.WARN, f"{path}: no such directory; {plan}a stand-in takes its place",
                     "put the model there, or set model.path")  # fmt: skip
    try:
        files = read_model(path)
    except ModelSourceError as error:
        return Check("model", Level.FAIL, error.message, error.hint or "")
    value = (
        f"{path}: {files.architecture}, {files.dimension} dimensions, {files.max_tokens} tokens, "
        f"{files.pooling} pooling, {show_bytes(files.weight_bytes)}"
    )
    return (
        Check("model", Level.WARN, f"{value}; {files.label}") if files.stand_in else Check("model", Level.PASS, value)
    )


def shown(path: Path) -> str:
    """A path relative to here where it lies below here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
