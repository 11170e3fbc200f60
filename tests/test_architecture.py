"""The shape of the package, read from the source: who may import whom, and what is called how."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from tests.exceptions import SCENARIOS, TESTED_BY_OTHERS
from tests.sharing import ByServer, shared_by

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "slo"
FOLDERS = ("bench", "cli", "deploy", "report", "serve", "watch")
ALLOWED = {
    "bench": {"bench"},
    "deploy": {"deploy"},
    "watch": {"watch"},
    "serve": {"serve"},
    "report": {"report"},  # from records alone; types of others only under TYPE_CHECKING
    "cli": set(FOLDERS),
    "__main__.py": {"cli"},
    "__init__.py": {"watch"},  # the public names for people's own services, loaded when used
}
# The folders of the watch and of the server, lowest first: none imports one above it. Their own modules compose them.
LAYERS_OF_WATCH = [
    {"watch/model"},
    {"watch/budget", "watch/history", "watch/sli"},
    {"watch/alerting"},
    {"watch/delivery/sinks"},
    {"watch/delivery"},
    {"watch"},
]
LAYERS_OF_SERVE = [
    {"serve/engine", "serve/telemetry"},
    {"serve/door"},
    {"serve/web"},
    {"serve"},
]
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]


@cache
def imported(path: Path) -> set[str]:
    """Modules that `path` imports at run time, wherever in the file; imports under TYPE_CHECKING are left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def folders_of(path: Path) -> set[str]:
    """Which of our folders `path` imports from."""
    parts = (name.split(".") for name in imported(path))
    return {part[1] for part in parts if part[0] == "slo" and len(part) > 1 and part[1] in FOLDERS}


def roots_of(path: Path) -> set[str]:
    """Top-level packages that `path` imports."""
    return {name.split(".")[0] for name in imported(path)}


def test_all_folders_are_known() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(FOLDERS)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_point_one_way(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    assert folders_of(path) <= ALLOWED.get(folder, set())


def test_only_two_files_of_serve_and_the_entry_of_the_server_import_xinference() -> None:
    importers = {name for path, name in zip(MODULES, NAMES, strict=True) if "xinference" in roots_of(path)}
    outside = {name for name in importers if not name.startswith("serve/")}
    assert outside <= {"deploy/entry.py"}  # runs in the server's own process, never in ours
    assert len(importers - outside) <= 2, importers


def folder_imports() -> dict[str, set[str]]:
    """Which folders the modules of each folder import from, by path below the package.

    `slo/__init__.py` and `slo/__main__.py` are left out: they are entries, and stand above everything.
    """
    homes = {".".join(("slo", *Path(name).with_suffix("").parts)): str(Path(name).parent) for name in NAMES}
    homes |= {name.removesuffix(".__init__"): home for name, home in homes.items() if name.endswith(".__init__")}
    found: dict[str, set[str]] = defaultdict(set)
    for path, name in zip(MODULES, NAMES, strict=True):
        if name not in ("__init__.py", "__main__.py"):
            found[str(Path(name).parent)].update(homes[module] for module in imported(path) if module in homes)
    return found


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The groups of nodes that reach each other, in order of their names."""
    reach = {node: {*targets} for node, targets in graph.items()}
    for middle in graph:
        for targets in reach.values():
            if middle in targets:
                targets.update(reach[middle])
    groups = {
        frozenset(other for other in reach[node] if node in reach.get(other, ()))
        for node in graph
        if node in reach[node]
    }
    return sorted((set(group) for group in groups if len(group) > 1), key=sorted)


def folder_cycles() -> list[set[str]]:
    """Groups of folders that import each other, at the depth where they do so first."""
    graph, found = folder_imports(), list[set[str]]()
    for depth in range(1, max(len(Path(home).parts) for home in graph) + 1):
        cut: dict[str, set[str]] = defaultdict(set)
        for home, targets in graph.items():
            short = "/".join(Path(home).parts[:depth])
            cut[short] |= {"/".join(Path(target).parts[:depth]) for target in targets} - {short}
        found += [group for group in cycles(cut) if not any(group <= other for other in found)]
    return found


def twice(names: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Names that two files give, with the files."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, where in names:
        found[name].append(where)
    return {name: files for name, files in sorted(found.items()) if len(files) > 1}


def test_folders_do_not_import_each_other_in_a_circle() -> None:
    assert folder_cycles() == []


@pytest.mark.parametrize(("package", "layers"), [("watch", LAYERS_OF_WATCH), ("serve", LAYERS_OF_SERVE)])
def test_the_layers_of_a_package(package: str, layers: list[set[str]]) -> None:
    """Show them with `pytest -s`: each folder stands one above the highest that it imports."""
    graph = {home: targets - {home, "."} for home, targets in folder_imports().items() if home.startswith(package)}
    found: list[set[str]] = []
    while left := set(graph) - {home for layer in found for home in layer}:
        found.append({home for home in left if not graph[home] & left})
        assert found[-1], f"a circle among {sorted(left)}"
        print(f"{len(found)}: {', '.join(sorted(found[-1]))}")
    assert found == layers


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert cycles(graph) == [{"b", "c"}]


def test_no_module_name_is_given_twice() -> None:
    stems = ((path.stem, name) for path, name in zip(MODULES, NAMES, strict=True))
    found = twice((stem, name) for stem, name in stems if stem not in ("__init__", "__main__"))
    assert not found


def test_no_public_class_name_is_given_twice() -> None:
    found = twice(
        (node.name, name)
        for path, name in zip(MODULES, NAMES, strict=True)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_stays_of_readable_length(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 330


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_says_what_it_gives(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_small_module_has_two_importers_or_says_why_it_stands_alone(path: Path) -> None:
    """A fragment belongs to the one that uses it. The reason is a line of the docstring: `Alone: …`."""
    text = path.read_text(encoding="utf-8")
    if len(text.splitlines()) >= 60 or path.stem in ("__init__", "__main__"):
        return
    name = ".".join(("slo", *path.relative_to(PACKAGE).with_suffix("").parts))
    importers = sum(name in imported(other) for other in MODULES)
    says_why = "\nAlone: " in (ast.get_docstring(ast.parse(text)) or "")
    assert importers >= 2 or says_why


def test_a_test_file_is_named_as_its_module() -> None:
    files = {str(path.relative_to(TESTS).with_suffix("")) for path in TESTS.rglob("test_*.py")}
    modules = {str(Path(name).with_suffix("")) for name in NAMES if Path(name).stem not in ("__init__", "__main__")}
    homes = {str(Path(module).with_name(f"test_{Path(module).name}")): module for module in modules}
    untested = {module for home, module in homes.items() if home not in files}
    assert files - homes.keys() == set(SCENARIOS), "name it as the module, or say in tests/exceptions.py what it shows"
    assert untested == set(TESTED_BY_OTHERS), "give it a test file of its name, or an entry in tests/exceptions.py"


def test_files_that_share_a_server_go_together_and_others_apart(pytestconfig: pytest.Config) -> None:
    scheduler = object.__new__(ByServer)  # a whole one starts processes
    scheduler.config = pytestconfig
    scopes = [
        scheduler._split_scope(f"tests/{file}.py::test_a[a::b@c]")
        for file in ("deploy/test_server", "watch/test_watch_live", "deploy/test_full_size")
    ]
    assert scopes == ["the server", "the server", str(TESTS / "deploy" / "test_full_size.py")]


@pytest.mark.parametrize(
    ("parameter", "what"),
    [
        ("(?:stock_)?server: Server", "the server"),
        ("drilled: Server", "the server for drills"),
        ("guarded: Guarded", "the server with authentication"),
    ],
)
def test_whoever_asks_for_a_shared_server_says_so(parameter: str, what: str) -> None:
    """Else another process would start the same server once more."""
    asks = re.compile(rf"^(?:async )?def test_\w+\([^)]*\b{parameter}\b", re.MULTILINE)
    texts = {file: file.read_text(encoding="utf-8") for file in TESTS.rglob("test_*.py")}
    asking = [file for file, text in texts.items() if "pytest.mark.server" in text and asks.search(text)]
    assert asking
    assert {str(file.relative_to(TESTS)): shared_by(file) for file in asking if shared_by(file) != what} == {}
