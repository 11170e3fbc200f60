"""The shape of the package, read from the source: who may import whom."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "slo"
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
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]


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


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_stays_of_readable_length(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 330 or path.name == "config.py"  # the one list of all settings


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_says_what_it_gives(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
