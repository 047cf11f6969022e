"""The packages of `smca` stand in an order, and each imports those before it only."""

import ast
from pathlib import Path

import pytest

from helpers.builders import ROOT

PACKAGE = ROOT / "projects" / "SMCA" / "smca"
SMALL = (
    "errors",
    "text",
    "version",
    "whole_file",
    "waiting",
    "main_process",
    "device",
    "compilation",
    "timm_features",
)
ORDER = (
    SMALL,
    ("layers",),
    ("description",),
    ("checkpoint",),
    ("config",),
    ("modeling",),
    ("experiments",),
    ("data",),
    ("model_zoo",),
    ("evaluation",),
    ("engine",),
    ("visualization",),
    ("inference", "data_check", "analysis"),
    ("export", "report", "attention_view"),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
MOST_FILES, MOST_LINES = 14, 300


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def noun(path: Path) -> str:
    """The package, or module of the top level, that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path):
    """(name below `smca`, whether it is inside of a function) of everything that a file imports of the package."""
    tree = ast.parse(path.read_text())
    top = set()
    for node in tree.body:
        top |= {node, *(ast.walk(node) if isinstance(node, ast.With | ast.If | ast.Try) else ())}
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = ["smca", *inside[: len(inside) - node.level], *base]
            names = [[*base, alias.name] for alias in node.names]
        for name in names:
            if name[0] == "smca" and len(name) > 1:
                yield name[1], node not in top


@pytest.mark.parametrize(
    "path", modules(), ids=lambda path: str(path.relative_to(PACKAGE).with_suffix(""))
)
def test_imports_point_one_way(path):
    own = noun(path)
    if own in ("__init__", "configs"):
        return
    for name, is_lazy in imports(path):
        assert name in RANK, f"{name} has no place in the order"
        assert name == own or RANK[name] < RANK[own] or {name, own} <= set(SMALL), (
            f"{own} imports {name}, which stands behind it"
        )
        assert not is_lazy, f"{name} is imported inside of a function"


def test_every_package_has_a_place():
    assert {noun(path) for path in modules()} - {"__init__"} == set(RANK)


def test_functions_say_first_what_they_do():
    """Constructors stand below a class that says it."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name != "__init__":
                text = ast.get_docstring(node) or ""
                assert not text.startswith(("Args:", "Returns:", "Raises:")), (path, node.name)


def test_sizes():
    folders = [PACKAGE, *(p for p in PACKAGE.rglob("*") if p.is_dir() and any(p.glob("*.py")))]
    for folder in folders:
        count = len(list(folder.glob("*.py")))
        assert count <= MOST_FILES, f"{folder.relative_to(PACKAGE)} has {count} files"
    for path in modules():
        lines = path.read_text().count("\n")
        assert lines <= MOST_LINES, f"{path.relative_to(PACKAGE)} has {lines} lines"
