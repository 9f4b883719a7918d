"""Imports go down only, and importing the package stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

import mixedgen

PACKAGE = Path(mixedgen.__file__).parent

# A room is a folder or a file of the package. It may import rooms on lower floors; those of one floor do not know each
# other.
FLOORS: dict[int, set[str]] = {
    12: {"cli"},
    11: {"mixedgen"},  # the package itself, which lists the public names
    10: {"model"},
    9: {"output"},
    8: {"inference", "intervals", "diagnostics"},
    7: {"prediction"},
    6: {"estimation"},
    5: {"engines"},
    4: {"design"},
    3: {"relationship", "residual"},
    2: {"formula", "covariance", "genetics", "sparse", "data"},
    1: {"errors", "arrays", "definite"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
MOST_FLOORS, MOST_FILES = 12, 12


def module_name(path: Path) -> str:
    """Dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(p): p for p in sorted(PACKAGE.rglob("*.py")) if "__pycache__" not in p.parts}


def room_of(module: str) -> str:
    """Room of a dotted name: its part below the package, or the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and f"mixedgen.{parts[1]}" in FILES else parts[0]


def imports_of(module: str) -> Iterator[tuple[str, int]]:
    """Files of the package that a file imports, at the top, inside functions or for types alone, with the line."""
    path = FILES[module]
    package = module.split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{source}.{a.name}" if f"{source}.{a.name}" in FILES else source for a in node.names]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name in FILES and name != module)


def circle(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Names that can be reached from themselves."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(edges.get(start, ()))
        while todo:
            here = todo.pop()
            if here not in seen:
                seen.add(here)
                todo += edges.get(here, ())
        return seen

    return sorted(name for name in edges if name in reached(name))


@pytest.mark.parametrize("module", FILES)
def test_imports_go_down(module: str) -> None:
    room = room_of(module)
    assert room in FLOOR_OF, f"{room!r} has no floor: give it one in FLOORS"
    others = ((name, room_of(name), line) for name, line in imports_of(module))
    wrong = [
        f"line {line}: {name} (floor {FLOOR_OF.get(other)})"
        for name, other, line in others
        if other != room and not FLOOR_OF.get(other, 99) < FLOOR_OF[room]
    ]
    assert not wrong, f"{room} is on floor {FLOOR_OF[room]} and may not import " + "; ".join(wrong)


def test_no_circle_of_files_or_rooms() -> None:
    files = {module: [name for name, _ in imports_of(module)] for module in FILES}
    assert not circle(files)
    rooms: dict[str, set[str]] = {}
    for module, names in files.items():
        rooms.setdefault(room_of(module), set()).update({room_of(n) for n in names} - {room_of(module)})
    assert not circle(rooms)


def test_the_house_is_small() -> None:
    assert len(FLOORS) <= MOST_FLOORS and len(list(PACKAGE.glob("*.py"))) <= MOST_FILES


def test_the_test_sees_circles_and_hidden_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "one": "def f():\n    from mixedgen.two import g\n",
        "two": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mixedgen.one\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setitem(FILES, f"mixedgen.{name}", tmp_path / f"{name}.py")
    edges = {f"mixedgen.{name}": [other for other, _ in imports_of(f"mixedgen.{name}")] for name in texts}
    assert circle(edges) == ["mixedgen.one", "mixedgen.two"]


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


def test_import_loads_no_distributions() -> None:
    code = "import mixedgen, sys; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_small_fit_needs_no_compiler() -> None:
    loaded = modules_after("import mixedgen as mg; mg.lmm('Yield ~ 1 + (1|Batch)', mg.data.dyestuff()).summary()")
    assert "numba" not in loaded
