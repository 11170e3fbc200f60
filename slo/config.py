"""
One file, `configs/slo.yaml`, as frozen values; the only module that reads YAML and `SLO_…` variables.

Order, later wins: defaults below → the file → environment → command line. Every leaf key has a variable:
`server.port` is `SLO_SERVER_PORT`, `serve.cache.max_size` is `SLO_SERVE_CACHE_MAX_SIZE`. Unknown keys and
unknown `SLO_` variables are errors that name where they stand. Secrets are never part of the configuration:
an API key comes from `SLO_API_KEY` or a file readable by its owner alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator

from slo.errors import ConfigError
from slo.objective import Objective, latency_thresholds_ms, parse_objective
from slo.settings import Address, Device, Duration, ListeningHost, Precision, Section, Size, read_yaml, switch
from slo.settings_alerts import CHANNEL_SECRETS, NAMED_PREFIX, AlertsSection, named_secrets
from slo.settings_serve import ServeSection
from slo.settings_watch import WatchSection

DEFAULT_PATH = Path("configs/slo.yaml")
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

# Read elsewhere, for reasons of their own: the file itself, the secret, and what the launcher hands to the server.
RESERVED_VARIABLES = (
    frozenset({"SLO_CONFIG", "SLO_API_KEY", "SLO_ADMIN_USER", "SLO_ADMIN_PASSWORD", "SLO_SERVE_SETTINGS"})
    | CHANNEL_SECRETS
)


class ModelSection(Section):
    """Which model, and where its files come from."""

    name: str = Field("gte-base-zh", pattern=MODEL_NAME)
    uid: str | None = Field(None, pattern=MODEL_NAME)
    path: Path | None = None
    modelscope_id: str | None = None
    huggingface_id: str | None = None
    download: bool = True
    stand_in: Annotated[Literal["full", "tiny", "off"], BeforeValidator(switch)] = "full"
    language: tuple[str, ...] = ("zh",)
    max_artefacts: Size = 4 * 2**30

    @property
    def id(self) -> str:
        """What requests ask for."""
        return self.uid or self.name


class ServerSection(Section):
    """The Xinference server that runs the model."""

    host: ListeningHost = "127.0.0.1"
    port: int = Field(9997, ge=1, le=65535)
    endpoint: Address | None = None
    engine: str = "openvino"
    precision: Precision = "auto"
    device: Device = "cpu"
    replicas: int = Field(1, ge=1, le=64)
    threads: int | None = Field(None, ge=1, le=1024)
    streams: int = Field(2, ge=1, le=64)
    auth: Annotated[Literal["auto", "on", "off"], BeforeValidator(switch)] = "auto"
    log: Path = Path("model_server.log")
    log_size: Size = Field(100 * 2**20, ge=2**20)
    restart: bool = True
    fork_server: bool = True
    start_timeout: Duration = Field(180.0, gt=0)
    launch_timeout: Duration = Field(300.0, gt=0)
    stop_timeout: Duration = Field(40.0, gt=0)


class ClientSection(Section):
    """How this toolkit talks to an embeddings endpoint."""

    timeout: Duration = Field(10.0, gt=0)
    api_key_file: Path | None = None


class BaselineSection(Section):
    """`slo baseline`: requests and warm-up per length class, one every `pace`; a seed of None is taken from the clock.

    A fixed default seed would send the same texts again, and the second run would measure the server's cache.
    """

    requests: int = Field(200, ge=1, le=1_000_000)
    warmup: int = Field(20, ge=0, le=100_000)
    seed: int | None = None
    pace: Duration = Field(0.1, ge=0, le=60)


class Config(Section):
    """The whole configuration."""

    model: ModelSection = ModelSection()
    server: ServerSection = ServerSection()
    client: ClientSection = ClientSection()
    objective: str = "p95 <= 150ms"
    confidence: float = Field(0.95, ge=0.5, lt=1)
    longest_stall: Duration = Field(1.0, ge=0)
    baseline: BaselineSection = BaselineSection()
    watch: WatchSection = WatchSection()
    alerts: AlertsSection = AlertsSection()
    serve: ServeSection = ServeSection()
    state_dir: Path = Path(".slo")

    @field_validator("objective")
    @classmethod
    def _objective_is_readable(cls, text: str) -> str:
        try:
            parse_objective(text)
        except ConfigError as error:
            raise ValueError(f"{error.message}; {error.hint}") from error
        return text

    @model_validator(mode="after")
    def _the_server_does_not_give_up_before_the_deadline(self) -> Config:
        admission = self.serve.admission
        deadline_s = self.slo.threshold_s if admission.deadline is None else admission.deadline
        if deadline_s > admission.request_timeout:
            said = "objective" if admission.deadline is None else "serve.admission.deadline"
            raise ValueError(
                f"serve.admission.request_timeout ({admission.request_timeout:g} s) is shorter than the deadline of a "
                f"request ({deadline_s:g} s, by {said}): every answer would be given up before it is late"
            )
        return self

    @property
    def slo(self) -> Objective:
        """The objective with its confidence, and the longest stall that a run must not miss."""
        found = parse_objective(self.objective, confidence=self.confidence)
        return replace(found, longest_stall_s=self.longest_stall)

    @property
    def thresholds_ms(self) -> tuple[float, ...]:
        """Of every latency objective, the main one first."""
        texts = (self.watch.objectives.availability, self.watch.objectives.correctness)
        return tuple(dict.fromkeys((self.slo.threshold_ms, *latency_thresholds_ms(texts))))

    def serve_settings(self) -> dict[str, Any]:
        """What the extension is told: its section, with the deadline that counts, and the objectives' thresholds."""
        told = self.serve.model_dump(mode="json")
        if self.serve.admission.deadline is None:
            told["admission"]["deadline"] = self.slo.threshold_s
        return {**told, "thresholds_ms": list(self.thresholds_ms)}

    @property
    def endpoint(self) -> str:
        """Base URL of the server: the one given, else where `make launch` starts its own."""
        if self.server.endpoint:
            return self.server.endpoint.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.server.host, self.server.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.server.port}"

    def replaced(self, **changes: Any) -> Config:
        """A copy with dotted keys replaced: `replaced(**{"server.port": 9998})`. `None` changes nothing."""
        data = self.model_dump()
        for dotted, value in changes.items():
            if value is not None:
                _put(data, tuple(dotted.split(".")), value)
        return _validated(data, {})


def load(path: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration from `path` (default `configs/slo.yaml` when it exists) and `environ`.

    Raises `ConfigError` with file, key path and value for anything unreadable, unknown or out of range.
    """
    environ = os.environ if environ is None else environ
    if path is None and environ.get("SLO_CONFIG"):
        path = Path(environ["SLO_CONFIG"])
    data: dict[str, Any] = {}
    if path is not None or DEFAULT_PATH.exists():
        data = _read(path or DEFAULT_PATH)
    source = str(path or DEFAULT_PATH)
    origins: dict[tuple[str, ...], str] = {}
    leaves = dict(variables())
    for name in sorted(environ):
        if not name.startswith("SLO_") or name in RESERVED_VARIABLES or name.startswith(NAMED_PREFIX):
            continue
        if name not in leaves:
            raise ConfigError("no such setting", where=f"environment variable {name}",
                              hint="`slo validate --variables` lists them all")  # fmt: skip
        try:
            value = read_yaml(environ[name])
        except yaml.YAMLError as error:
            raise ConfigError("not readable as a YAML value", where=f"environment variable {name}") from error
        origins[leaves[name]] = f"environment variable {name}"
        _put(data, leaves[name], value)
    config = _validated(data, origins, source)
    _check_places(config, source)
    known = named_secrets(config.alerts)
    for name in sorted(environ):
        if name.startswith(NAMED_PREFIX) and name not in known:
            raise ConfigError("no channel of that name takes it", where=f"environment variable {name}",
                              hint=f"alerts.more knows {', '.join(sorted(known)) or 'no channel'}")  # fmt: skip
    return config


def _check_places(config: Config, source: str) -> None:
    """Folders that are files, and files that are folders. What is not there yet is no problem."""
    for key, path, wants_folder in (
        ("state_dir", config.state_dir, True), ("server.log", config.server.log, False),
        ("model.path", config.model.path, True),
    ):  # fmt: skip
        if path is None:
            continue
        there = path.expanduser()
        if there.is_file() if wants_folder else there.is_dir():
            raise ConfigError(
                f"{path} is a {'file' if wants_folder else 'folder'}", where=f"{source}: {key}",
                hint=f"give the path of a {'folder' if wants_folder else 'file'}",
            )  # fmt: skip


def variables() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every environment variable with the key path that it overrides."""
    for path in _leaves(Config):
        yield "SLO_" + "_".join(path).upper(), path


def _leaves(section: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and get_origin(kind) is None:
            yield from _leaves(kind, (*prefix, name))
        else:
            assert not any(isinstance(a, type) and issubclass(a, BaseModel) for a in get_args(kind))  # noqa: S101
            yield (*prefix, name)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), hint="give another with --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    try:
        data = read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(problem, where=f"{path}{line}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError("expected a mapping of settings at the top level", where=str(path))
    return data


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            return  # the file is wrong here: validation will say so with its path
        data = inner
    data[path[-1]] = value


def _validated(data: dict[str, Any], origins: dict[tuple[str, ...], str], source: str = "settings") -> Config:
    misread = [
        (origins.get(path, f"{source}: {'.'.join(path)}"), said) for path, said in Config.misunderstandings(data)
    ]
    if misread:
        raise _refusal(misread)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            path = tuple(str(part) for part in item["loc"])
            where = origins.get(path, f"{source}: {'.'.join(path)}" if path else source)
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "extra_forbidden":
                message = "no such setting"
            elif path:
                message += f", got {item['input']!r}"
            lines.append((where, message))
        raise _refusal(lines) from error


def _refusal(lines: list[tuple[str, str]]) -> ConfigError:
    """One error for all that is wrong: where, and what."""
    where, message = lines[0]
    more = "".join(f"\n{w}: {m}" for w, m in lines[1:])
    return ConfigError(message + more, where=where, hint="configs/slo.yaml documents every setting")
