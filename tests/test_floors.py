"""Imports go down only, and importing the package stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mixedgen

PACKAGE = Path(mixedgen.__file__).parent

# A room is a module or a folder. It may import rooms on lower floors; rooms of one floor do not know each other.
FLOORS: dict[float, set[str]] = {
    11: {"cli"},
    10.5: {"mixedgen"},  # the package itself, which lists the public names
    10: {"model"},
    9.8: {"plots"},
    9.7: {"power", "stages", "trajectories"},  # made of tests, means and predictions
    9.6: {"tidy", "report", "bootstrap"},  # frames and tables for reports
    9.5: {
        "tables",
        "interop",
        "matrices",
        "means",
        "comparison",
        "intervals",
        "newdata",
        "influence",
        "diagnostics",
    },  # made of what floor 9 computes
    9: {"exact_test", "inference", "prediction", "variances", "simulation", "proportions", "factors"},
    8.5: {"degrees", "hypotheses"},  # what the tests of floor 9 share
    8.3: {"hull"},
    8: {"estimate"},
    7.5: {"constrained"},  # what profiles need beside the maximum
    7: {"optimise", "moments"},
    6: {"likelihood"},
    5: {"engines"},
    4: {"design"},
    3.8: {"traits", "restrictions"},
    3.75: {"sections"},  # sums of residual structures
    3.7: {"known_residual", "separable"},  # and their products
    3.6: {"fixed", "residual"},  # unknown-parent groups of the terms are columns of X
    3.4: {"terms"},
    3.2: {"frame"},
    3: {"formula", "reconcile", "revision"},
    2.8: {"lexemes"},
    2.5: {"genomic", "grid"},  # made of relationships and structures
    2.3: {"custom"},
    2: {"relationship", "structure", "basis"},
    1: {"pedigree", "genotypes", "sparse"},
    0.7: {"parentage", "covariance"},  # what pedigrees and genotypes are read and computed with
    0.6: {"files", "inbreeding"},
    0.5: {"data"},  # raises errors
    0: {"errors"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}


def room_of(module: str) -> str:
    """Room of a dotted name: its part below the package, or the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def module_name(path: Path) -> str:
    """Dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    """Whether a node is ``if TYPE_CHECKING:``, which never runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING"


def import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run, at the top or inside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif is_type_checking(child):
            assert isinstance(child, ast.If)
            yield from import_statements(ast.Module(child.orelse, []))
        else:
            yield from import_statements(child)


def imported_rooms(path: Path) -> Iterator[tuple[str, int]]:
    """Rooms of the package that a file imports, with the line."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in import_statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            inner = [f"{source}.{alias.name}" for alias in node.names]
            names = [n if source == "mixedgen" and room_of(n) in FLOOR_OF else source for n in inner]
        yield from ((room_of(n), node.lineno) for n in names if n.split(".")[0] == "mixedgen")


FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_down(path: Path) -> None:
    room = room_of(module_name(path))
    assert room in FLOOR_OF, f"{room!r} has no floor: give it one in FLOORS"
    wrong = [
        f"line {line}: {other} (floor {FLOOR_OF.get(other)})"
        for other, line in imported_rooms(path)
        if other != room and not FLOOR_OF.get(other, 99) < FLOOR_OF[room]
    ]
    assert not wrong, f"{room} is on floor {FLOOR_OF[room]} and may not import " + "; ".join(wrong)


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after a statement."""
    code = f"{statement}; import sys; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_is_light() -> None:
    loaded = modules_after("import mixedgen")
    assert not loaded & {"numba", "statsmodels", "matplotlib", "great_tables", "maketables", "polars", "pytest"}
    # pandas and formulaic load pyarrow themselves where it is installed
    assert "pyarrow" not in loaded - modules_after("import pandas, formulaic")


def test_a_small_fit_needs_no_compiler() -> None:
    loaded = modules_after("import mixedgen as mg; mg.lmm('Yield ~ 1 + (1|Batch)', mg.data.dyestuff()).summary()")
    assert "numba" not in loaded
