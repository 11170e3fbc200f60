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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("server: {port: 9000}\nmodel: {}\nserver: {restart: false}\n", "after line 1", id="a block twice"),
        pytest.param("server: {port: 1, port: 2}\n", "'port' stands here a second time", id="a key twice"),
        pytest.param("serve: {limits: {max_body: 0}}\n", "serve.limits.max_body", id="no body at all"),
        pytest.param("serve: {admission: {request_timeout: 0s}}\n", "request_timeout", id="no time at all"),
        pytest.param("serve: {admission: {deadline: 60s, request_timeout: 1s}}\n", "is shorter than", id="deadline"),
        pytest.param("objective: p95 <= 20s\n", "by objective", id="an objective beyond the timeout"),
        pytest.param("server: {host: 999.1.1.1}\n", "neither an IP address", id="no address"),
        pytest.param("server: {host: 'a b'}\n", "server.host", id="no host name"),
        pytest.param("server: {endpoint: 'file:///etc/passwd'}\n", "server.endpoint", id="a file"),
        pytest.param("server: {endpoint: 'http://'}\n", "server.endpoint", id="an address without a host"),
        pytest.param("server: {endpoint: 'http://h:99999'}\n", "Port out of range", id="no port"),
        pytest.param("watch: {source: {prometheus_url: 'prometheus:9090'}}\n", "prometheus_url", id="without a scheme"),
        pytest.param("watch: {heartbeat: {url: 'ftp://h/x'}}\n", "heartbeat.url", id="ftp"),
        pytest.param("alerts: {alertmanager: {peers: ['am-0:9093']}}\n", "alertmanager.peers", id="a peer"),
        pytest.param("alerts: {external_url: 'javascript:alert(1)'}\n", "external_url", id="a script"),
        pytest.param("server: {port: true}\n", "not true or false", id="true is no port"),
        pytest.param("client: {timeout: yes}\n", "not true or false", id="yes is no duration"),
        pytest.param("model: {name: on}\n", "not true or false", id="on is no name"),
        pytest.param("state_dir: ''\n", "the path is empty", id="an empty path"),
        pytest.param("client: {api_key_file: ''}\n", "or null", id="an empty optional path"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_not_accepted_without_a_word(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "server: {host: '::1'}", "server: {host: '[::1]'}", "server: {host: localhost}", "server: {host: a-1.b}",
        "server: {host: 0.0.0.0}", "server: {endpoint: 'http://[::1]:9997/v1'}", "server: {auth: on}",
        "model: {stand_in: off}", "serve: {enabled: false}", "serve: {cache: {max_size: 0}}", "baseline: {seed: null}",
        "a: &a {x: 1}\nb: {<<: *a}",
    ],
)  # fmt: skip
def test_what_works_is_accepted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text(text, encoding="utf-8")
    if text.startswith("a:"):
        with pytest.raises(ConfigError, match="no such setting"):  # and not "a second time"
            load(file, environ={})
    else:
        load(file, environ={})


def test_no_number_is_ever_a_truth_value() -> None:
    for _, path in variables():
        value: Any = Config().model_dump()
        for key in path:
            value = value[key]
        if not isinstance(value, bool) and path not in {("model", "stand_in"), ("server", "auth")}:
            with pytest.raises(ConfigError):
                Config().replaced(**{".".join(path): True})


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = tmp_path / "slo.yaml"
    for text, key in (
        (f"state_dir: {tmp_path / 'file'}", "state_dir"),
        (f"model: {{path: {tmp_path / 'file'}}}", "model.path"),
        (f"server: {{log: {tmp_path}}}", "server.log"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=rf"slo\.yaml: {key}: "):
            load(file, environ={})
