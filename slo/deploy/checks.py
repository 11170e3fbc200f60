"""What a check is, and those of the machine's own: processor, GPU, cores, memory, open files."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from packaging.version import Version

from slo.config import Config
from slo.deploy.machine import Machine
from slo.model_files import ModelFiles
from slo.units import show_bytes

MIB = 2**20
# Proportional set sizes, measured: two server processes, then per replica the interpreter with its libraries.
SERVER_BYTES = 1500 * MIB
REPLICA_BYTES = 800 * MIB
WEIGHT_FACTOR = 3  # read, converted, and in use
STAND_IN_BYTES = {"full": 400 * MIB, "tiny": 15 * MIB, "off": 0}
FEW_OPEN_FILES = 4096


class Level(Enum):
    """How a check went."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One finding. `fix` is empty where nothing is to be done."""

    name: str
    level: Level
    value: str
    fix: str = ""


def check_cpu(machine: Machine, engine: str) -> Check:
    """Which fast number formats the processor has."""
    flags = machine.cpu_flags
    known = {
        "AVX2": {"avx2"}, "AVX-512": {"avx512f"}, "VNNI": {"avx512_vnni", "avx_vnni"}, "BF16": {"avx512_bf16", "bf16"},
        "AMX": {"amx_int8", "amx_tile"}, "NEON": {"asimd"}, "I8MM": {"i8mm"},
    }  # fmt: skip
    found = [name for name, wanted in known.items() if flags & wanted]
    value = f"{machine.architecture}: {', '.join(found) or 'no vector extensions known to us'}"
    if machine.architecture == "x86_64" and "AVX2" not in found:
        return Check(
            "cpu", Level.WARN, f"{value}; AVX2 missing", "expect several times the latency; use another machine"
        )
    if engine == "openvino" and not {"VNNI", "AMX", "I8MM"} & set(found):
        return Check(
            "cpu", Level.WARN, f"{value}; no int8 instructions", "int8 will bring little; measure with `slo baseline`"
        )
    return Check("cpu", Level.PASS, value)


def check_gpu(machine: Machine, device: str) -> list[Check]:
    """Whether torch can reach a GPU; nothing where none is asked for. An AMD card counts as "cuda" in ROCm's torch."""
    if device == "cpu":
        return []
    build = Version(machine.versions["torch"] or "0").local or ""
    if build.startswith("cpu"):
        fix = "install a torch that was built for CUDA, or set server.device to cpu"
        return [Check("gpu", Level.FAIL, f"torch {machine.versions['torch']} was built for processors only", fix)]
    if not machine.gpus and not build.startswith("rocm"):
        fix = "see `nvidia-smi`, or set server.device to cpu"
        return [Check("gpu", Level.FAIL, "none: the NVIDIA driver shows no card", fix)]
    return [Check("gpu", Level.PASS, ", ".join(machine.gpus) or f"torch {machine.versions['torch']}")]


def check_cores(machine: Machine, replicas: int, threads: int | None = None) -> Check:
    """Cores we may use, against the replicas that want one each, and the threads that each is set to use."""
    usable = min(machine.cores, machine.core_limit or machine.cores)
    value = f"{machine.cores}" + (f", limited to {machine.core_limit:g} by the container" if machine.core_limit else "")
    if usable < 2:
        return Check("cores", Level.WARN, value, "the API and the model will take turns; give it two cores or more")
    if replicas > usable:
        return Check("cores", Level.WARN, f"{value} for {replicas} replicas", "use no more replicas than cores")
    if threads is not None and threads * replicas > usable:
        found = f"{value} for {threads * replicas} threads"
        return Check("cores", Level.WARN, found, "lower server.threads, or leave it null")
    return Check("cores", Level.PASS, value)


def memory_needed(config: Config, files: ModelFiles | None) -> int:
    """Bytes that server and model will take."""
    weights = files.weight_bytes if files else STAND_IN_BYTES["full"]
    return SERVER_BYTES + config.server.replicas * (REPLICA_BYTES + WEIGHT_FACTOR * weights)


def check_memory(machine: Machine, config: Config, files: ModelFiles | None) -> Check:
    """Memory at hand against what server and replicas take."""
    needed, available = memory_needed(config, files), machine.memory_bytes
    value = f"{show_bytes(available)} available, {show_bytes(needed)} needed"
    if available < needed:
        return Check("memory", Level.FAIL, f"not enough: {value}", "free some, or use fewer replicas (server.replicas)")
    if available < 1.25 * needed:
        return Check("memory", Level.WARN, value, "close to the limit: other programs may be pushed out")
    return Check("memory", Level.PASS, value)


def check_open_files(machine: Machine) -> Check:
    """Each connection of a client is one; the server keeps a quarter for itself, and closes idle ones beyond."""
    if machine.open_files is None or machine.open_files >= FEW_OPEN_FILES:
        return Check("open files", Level.PASS, str(machine.open_files or "no limit"))
    return Check(
        "open files", Level.WARN, f"at most {machine.open_files} (hard limit)",
        "idle connections are closed early: raise it by LimitNOFILE=, `ulimit -Hn`, `docker run --ulimit nofile=65536`",
    )  # fmt: skip
