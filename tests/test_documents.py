"""Documents say what the code does: their Python runs, their output is right, and every docstring's example holds."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mixedgen

ROOT = Path(__file__).parents[1]
PACKAGE = Path(mixedgen.__file__).parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
DOCUMENTS = [*PAGES, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "vignettes").glob("*.md"))]
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\]\((?!https?:|#)(?P<target>[^)#\s]+)")


def name_of(path: Path) -> str:
    """Path of a file below the repository, or below the package."""
    base = ROOT if path.is_relative_to(ROOT) else PACKAGE.parent
    return path.relative_to(base).as_posix()


def code_blocks(text: str, language: str) -> Iterator[tuple[int, str]]:
    """Line and code of each fenced block of a language."""
    for block in FENCE.finditer(text):
        if block["language"] == language:
            yield text.count("\n", 0, block.start("code")) + 1, textwrap.dedent(block["code"])


def run_examples(code: str, namespace: dict[str, Any], path: Path, line: int) -> str:
    """Run ``>>>`` examples, compare what they print, and report the differences."""
    test = doctest.DocTestParser().get_doctest(code, namespace, path.name, str(path), line - 1)
    report: list[str] = []
    # names defined here are for the blocks that follow
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    return "".join(report)


def run_statements(code: str, namespace: dict[str, Any], path: Path, line: int) -> str:
    """Run plain statements, whose own asserts are the check."""
    tree = ast.increment_lineno(ast.parse(code), line - 1)
    exec(compile(tree, str(path), "exec"), namespace)
    return ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_documents_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    # what a reader with a terminal 100 characters wide sees
    with pd.option_context("display.width", 100, "display.max_columns", 20):
        reports = [
            (run_examples if code.lstrip().startswith(">>>") else run_statements)(code, namespace, path, line)
            for line, code in code_blocks(path.read_text(encoding="utf-8"), "python")
        ]
    assert not any(reports), "\n" + "".join(reports)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    targets = [found["target"] for found in LINK.finditer(path.read_text(encoding="utf-8"))]
    assert [t for t in targets if not (path.parent / t).exists()] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_docstrings_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        report: list[str] = []
        doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=report.append)
        assert not report, "\n" + "".join(report)


def test_reference_has_a_line_for_every_public_name() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert [name for name in mixedgen.__all__ if f"`{name}`" not in text and f"`{name}(" not in text] == []


def test_reference_names_every_public_member_of_fit() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    members = [name for name in vars(mixedgen.Fit) if not name.startswith("_")]
    assert [name for name in members if f"`{name}`" not in text and f"`{name}(" not in text] == []


def test_changelog_knows_the_version() -> None:
    assert f"## {mixedgen.__version__}" in (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")


def test_ci_runs_the_commands_of_the_readme() -> None:
    blocks = code_blocks((ROOT / "README.md").read_text(encoding="utf-8"), "sh")
    install, tests = [code.strip() for _, code in blocks][:2]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert install in script
    assert tests in script
    assert script.index(install) < script.index(tests)


def test_the_reference_names_what_the_registries_hold() -> None:
    from mixedgen.engines import ENGINES
    from mixedgen.estimation.estimators import ESTIMATORS
    from mixedgen.estimation.steps import CURVATURES

    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    names = [*ENGINES, *ESTIMATORS, *CURVATURES]
    assert [name for name in names if f'"{name}"' not in reference] == []
