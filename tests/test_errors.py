import re

import pytest

from slo import errors
from slo.errors import ConfigError, RequestError, SloError, StartError


def drawn() -> set[tuple[str, str]]:
    """(class, parent) pairs of the tree in the module's docstring, by indentation."""
    pairs: set[tuple[str, str]] = set()
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line)
        if match is None or " " in match.group(2):
            continue
        depth = len(match.group(1)) // 4
        if depth == 0 and match.group(2) != "SloError":
            continue
        path[depth:] = [match.group(2)]
        if depth:
            pairs.add((path[depth], path[depth - 1]))
    return pairs


def real(cls: type[SloError] = SloError) -> set[tuple[str, str]]:
    """The same of the classes themselves."""
    return {(c.__name__, cls.__name__) for c in cls.__subclasses__()}.union(*(real(c) for c in cls.__subclasses__()))


def own() -> set[tuple[str, str]]:
    return {(child, parent) for child, parent in real() if getattr(errors, child, None) is not None}


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert drawn() == own()


def test_a_message_comes_with_place_and_next_step() -> None:
    error = ConfigError("no such setting", where="slo.yaml: a.b", hint="look there")
    assert str(error) == "slo.yaml: a.b: no such setting\n  → look there"
    assert str(ConfigError("odd")) == "odd"


def test_a_failed_start_quotes_the_log_before_the_next_step() -> None:
    assert str(StartError("died", log_tail="one\ntwo", hint="retry")) == "died\n  | one\n  | two\n  → retry"


def test_every_request_error_is_counted_under_a_name_of_its_own() -> None:
    outcomes = [cls.outcome for cls in RequestError.__subclasses__()]
    assert len(set(outcomes)) == len(outcomes)
    assert "ok" not in outcomes
    assert RequestError.outcome not in outcomes


@pytest.mark.parametrize(
    ("name", "code"),
    [("Interrupted", 130), ("Unreachable", 1), ("ConfigError", 2), ("Unauthorized", 2), ("RunError", 2)],
)
def test_exit_codes_are_those_of_the_contract(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code
