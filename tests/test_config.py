from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from slo.config import Config, load, variables
from slo.errors import ConfigError

SHIPPED = Path(__file__).parent.parent / "configs" / "slo.yaml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "slo.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def keys(data: Any, prefix: str = "") -> set[str]:
    """Dotted leaf keys of nested mappings."""
    if not isinstance(data, dict) or not data:
        return {prefix}
    return {key for name, inner in data.items() for key in keys(inner, f"{prefix}.{name}".lstrip("."))}


def test_the_shipped_file_holds_every_key_with_its_default() -> None:
    assert load(SHIPPED, environ={}) == Config()
    assert keys(yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))) == {".".join(path) for _, path in variables()}


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environ={}) == Config()


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(written(tmp_path, "# nothing\n"), environ={}) == Config()


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    config = load(written(tmp_path, "watch: {interval: 30s}\nobjective: p99 <= 300ms\n"), environ={})
    assert config == Config().replaced(**{"watch.interval": 30, "objective": "p99 <= 300ms"})
    assert str(config.slo) == "P99 ≤ 300 ms"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("watch: {intervall: 60s}", "watch.intervall: no such setting", id="unknown key with its path"),
        pytest.param("sever: {}", "sever: no such setting", id="unknown section"),
        pytest.param("watch: {interval: soon}", "watch.interval: 'soon' is not a duration", id="bad duration"),
        pytest.param("watch: {interval: 0}", "watch.interval: Input should be greater", id="no interval at all"),
        pytest.param("server: {port: 99999}", "server.port: Input should be less than or equal to 65535", id="range"),
        pytest.param("server: {port: 99999}", "got 99999", id="the value is quoted"),
        pytest.param("serve: {cache: {max_size: huge}}", "serve.cache.max_size: 'huge' is not a size", id="bad size"),
        pytest.param("server: {precision: int4}", "server.precision", id="not one of the choices"),
        pytest.param("objective: fast", "objective: 'fast' is not an objective", id="bad objective"),
        pytest.param("serve: 5", "serve: ", id="a value where a section belongs"),
        pytest.param("- a\n- b", "expected a mapping", id="a list"),
        pytest.param("model:\n  name: [", "slo.yaml:", id="YAML syntax"),
        pytest.param("model:\n\tname: x", "slo.yaml:2:1", id="YAML syntax error with line and column"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), environ={})
    assert expected in str(caught.value)
    assert "slo.yaml" in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, "server: {port: 0}\nwatch: {probes: 0}\n"), environ={})
    assert "server.port" in str(caught.value)
    assert "watch.probes" in str(caught.value)


def test_a_missing_file_is_an_error_only_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "other.yaml", environ={})


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(path, environ={})


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "server: {port: 1111}\nserve: {cache: {max_size: 1MiB}}\n")
    config = load(path, environ={"SLO_SERVER_PORT": "2222", "SLO_SERVE_CACHE_MAX_SIZE": "2MiB", "OTHER": "x"})
    assert (config.server.port, config.serve.cache.max_size) == (2222, 2 * 2**20)


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "server: {port: 1111}\n")
    assert load(environ={"SLO_CONFIG": str(path)}).server.port == 1111


def test_an_unknown_variable_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match="environment variable SLO_SERVER_PROT: no such setting"):
        load(environ={"SLO_SERVER_PROT": "1"})


def test_a_bad_value_in_a_variable_is_an_error_that_names_it_and_not_the_file() -> None:
    with pytest.raises(ConfigError, match=r"^environment variable SLO_SERVER_PORT: .*got 'x'"):
        load(environ={"SLO_SERVER_PORT": "x"})


def test_the_secret_is_no_setting_and_no_mistake() -> None:
    assert "marker" not in repr(load(environ={"SLO_API_KEY": "marker"}))


def test_every_setting_has_one_variable() -> None:
    names = [name for name, _ in variables()]
    assert len(set(names)) == len(names)
    assert {"SLO_SERVER_PORT", "SLO_OBJECTIVE", "SLO_SERVE_CACHE_MAX_SIZE", "SLO_STATE_DIR"} <= set(names)


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Config().server, "port", 1)  # noqa: B010 - assigning is what must fail


def test_a_replacement_is_checked_as_the_file_is() -> None:
    config = Config().replaced(**{"server.port": 9998, "watch.interval": "30s", "model.name": None})
    assert (config.server.port, config.watch.interval, config.model.name) == (9998, 30.0, "gte-base-zh")
    with pytest.raises(ConfigError, match=r"server\.port"):
        Config().replaced(**{"server.port": 0})


@pytest.mark.parametrize(
    ("changes", "endpoint"),
    [
        ({}, "http://127.0.0.1:9997"),
        ({"server.host": "0.0.0.0"}, "http://127.0.0.1:9997"),  # noqa: S104
        ({"server.host": "::1", "server.port": 1}, "http://[::1]:1"),
        ({"server.host": "::"}, "http://[::1]:9997"),
        ({"server.endpoint": "https://h/x/v1/"}, "https://h/x/v1"),
    ],
)
def test_the_endpoint_is_the_one_given_or_our_own_server(changes: dict[str, Any], endpoint: str) -> None:
    assert Config().replaced(**changes).endpoint == endpoint


def sections(cls: type[BaseModel] = Config) -> Iterator[type[BaseModel]]:
    """`cls` and every section below it."""
    yield cls
    for info in cls.model_fields.values():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from sections(info.annotation)


@pytest.mark.parametrize("section", list(sections()))
def test_no_section_tolerates_unknown_keys(section: type[BaseModel]) -> None:
    assert section.model_config["extra"] == "forbid"
