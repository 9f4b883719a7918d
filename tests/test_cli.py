"""The shell command: results equal the public calls, mistakes are messages, files hold everything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.cli import main

SLEEP = ["fit", "Reaction ~ Days + (Days|Subject)", "sleepstudy"]
COLUMNS = ["part", "term", "level", "effect", "value", "se", "sdcor", "bound", "pev", "reliability", "n_records"]


@pytest.fixture(scope="module")
def sleep_fit() -> mg.Fit:
    return mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy())


@pytest.fixture
def pedigree_file(tmp_path: Path) -> Path:
    path = tmp_path / "ped.csv"
    mg.data.mrode_pedigree().to_csv(path, index=False)
    return path


def animal_records(seed: int = 1) -> pd.DataFrame:
    """Ten records of each of Mrode's calves and parents, drawn around different means."""
    rng = np.random.default_rng(seed)
    animals = np.repeat(np.arange(1, 9), 10)
    return pd.DataFrame({"animal": animals, "y": rng.normal(size=80) + 2.0 * rng.normal(size=8)[animals - 1]})


def test_fit_prints_the_summary(capsys: pytest.CaptureFixture[str], sleep_fit: mg.Fit) -> None:
    assert main(SLEEP) == 0
    out, err = capsys.readouterr()
    assert "REML criterion" in out
    assert "1743.6" in out
    assert out.strip() == str(sleep_fit.summary()).strip()
    assert err == ""


def test_ml_weights_subset_residual_engine_reach_the_fit(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--ml", "--weights", "Days", "--subset", "Days > 1", "--residual", "diag(Days)", "--engine", "dense"]
    assert main(["fit", "Reaction ~ Days + (1|Subject)", "sleepstudy", *flags]) == 0
    fit = mg.lmm(
        "Reaction ~ Days + (1|Subject)",
        mg.data.sleepstudy(),
        method="ml",
        weights="Days",
        subset="Days > 1",
        residual="diag(Days)",
        control=mg.Control(engine="dense"),
    )
    assert f"{fit.deviance:.4f}" in capsys.readouterr().out


def test_em_reaches_the_same_criterion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "Yield ~ 1 + (1|Batch)", "dyestuff", "--optimiser", "em"]) == 0
    assert "319.6543" in capsys.readouterr().out


def test_progress_line_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SLEEP, "--progress"]) == 0
    out, err = capsys.readouterr()
    assert "REML" in err
    assert "steps" not in out.split("Certificate")[0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_of_results(tmp_path: Path, suffix: str, sleep_fit: mg.Fit) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"results{suffix}"
    assert main([*SLEEP, "-o", str(path)]) == 0
    table = pd.read_csv(path, dtype={"level": "str"}) if suffix == ".csv" else pd.read_parquet(path)
    assert list(table.columns) == COLUMNS
    part = {name: rows for name, rows in table.groupby("part")}
    assert part["criterion"].set_index("term")["value"]["reml_criterion"] == pytest.approx(sleep_fit.reml_criterion)
    assert part["fixed"].set_index("effect")["value"].to_dict() == pytest.approx(sleep_fit.params.to_dict())
    assert part["varcomp"]["value"].tolist() == pytest.approx(sleep_fit.varcomp["vcov"].tolist())
    assert part["varcomp"]["effect"].tolist()[:3] == ["(Intercept)", "Days", "(Intercept),Days"]
    assert part["blup"]["value"].tolist() == pytest.approx(sleep_fit.blup("Subject")["value"].tolist())
    assert part["blup"]["level"].tolist() == sleep_fit.blup("Subject")["level"].tolist()


def test_json_document(tmp_path: Path, sleep_fit: mg.Fit) -> None:
    path = tmp_path / "results.json"
    assert main([*SLEEP, "-o", str(path)]) == 0
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["package"] == {"name": "mixedgen", "version": mg.__version__}
    assert result["formula"] == SLEEP[1]
    assert result["method"] == "reml"
    assert result["criteria"]["reml_criterion"] == pytest.approx(sleep_fit.reml_criterion)
    assert result["criteria"]["npar"] == 6
    assert [row["name"] for row in result["coefficients"]] == ["Intercept", "Days"]
    assert [row["vcov"] for row in result["varcomp"]] == pytest.approx(sleep_fit.varcomp["vcov"].tolist())
    assert result["varcomp"][0]["var2"] is None
    assert result["theta"] == pytest.approx(sleep_fit.theta.to_dict())
    assert len(result["blups"]["Subject"]) == 36
    assert result["certificate"]["converged"] is True


def test_json_of_a_singular_fit_has_no_invalid_number(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert main(["fit", "Yield ~ 1 + (1|Batch)", "dyestuff2", "-o", str(path)]) == 0
    result = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert result["varcomp"][0]["vcov"] == 0.0
    assert result["varcomp"][0]["se"] is None
    assert result["certificate"]["singular"]


def test_pedigree_binds_the_relationship(tmp_path: Path, pedigree_file: Path) -> None:
    records, results = animal_records(), tmp_path / "results.json"
    records.to_csv(tmp_path / "records.csv", index=False)
    command = ["fit", "y ~ 1 + (1|animal:A)", str(tmp_path / "records.csv"), "--pedigree", str(pedigree_file)]
    assert main([*command, "-o", str(results)]) == 0
    A = mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))
    fit = mg.lmm("y ~ 1 + (1|animal:A)", records, relationships={"A": A})
    assert json.loads(results.read_text())["theta"] == pytest.approx(fit.theta.to_dict())


def test_pedigree_columns_are_chosen(tmp_path: Path) -> None:
    mg.data.mrode_pedigree().set_axis(["animal", "father", "mother"], axis=1).to_csv(tmp_path / "p.csv", index=False)
    animal_records().to_csv(tmp_path / "records.csv", index=False)
    command = ["fit", "y ~ 1 + (1|animal:A)", str(tmp_path / "records.csv"), "--pedigree", str(tmp_path / "p.csv")]
    assert main([*command, "--pedigree-columns", "animal,father,mother"]) == 0
    assert main(command) == 2


def test_a_file_wins_over_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mg.data.sleepstudy().head(100).to_csv("sleepstudy", index=False)
    assert main(SLEEP) == 0
    assert "Number of obs: 100" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "y ~ 1 + (1|g)", "nowhere.csv"], "neither a file nor a shipped data set"),
        (["fit", "Reaction ~ Days + (1|Subjects)", "sleepstudy"], "Did you mean 'Subject'"),
        (["fit", "Reaction ~ Days + (1|Subject", "sleepstudy"], "opened but not closed"),
        ([*SLEEP, "--engine", "steam"], "steam"),
        ([*SLEEP, "--subset", "Dayz > 1"], "Dayz"),
        ([*SLEEP, "--pedigree", "nowhere.csv"], "nowhere.csv"),
        ([*SLEEP, "-o", "results.xlsx"], ".csv, .json, .parquet"),
        ([*SLEEP, "-o", "nowhere/results.csv"], "no folder"),
    ],
)
def test_mistakes_are_messages(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mixedgen: error: ")
    assert message in err
    assert "Traceback" not in err


def test_unused_pedigree_is_a_mistake(pedigree_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SLEEP, "--pedigree", str(pedigree_file)]) == 2
    assert "'A'" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "a,b\n1,2,3\n4,5,6,7\n"])
def test_a_file_that_is_no_table_is_a_mistake(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(content)
    assert main(["fit", "y ~ 1 + (1|g)", str(path)]) == 2
    assert capsys.readouterr().err.startswith("mixedgen: error: ")


@pytest.mark.parametrize("flags", [[], ["--pedigree-columns", "id,sire"], ["--optimiser", "bobyqa"]])
def test_wrong_command_lines_exit_with_usage(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*SLEEP, *flags] if flags else [])
    assert stop.value.code == 2
    assert "usage: mixedgen" in capsys.readouterr().err


def test_a_warning_is_one_line_and_no_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_early = mg.Control(max_iter=1)
    monkeypatch.setattr("mixedgen.cli.Control", lambda **options: stopped_early)
    assert main(SLEEP) == 0
    err = capsys.readouterr().err
    assert err.startswith("mixedgen: warning: not converged")
    assert err.count("\n") == 1


def test_data_lists_what_load_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == mg.data.names()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"mixedgen {mg.__version__}\n"


def test_warmup_says_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warmup"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(" s")


def test_the_process_fits_and_fails_cleanly() -> None:
    command = [sys.executable, "-W", "error", "-m", "mixedgen.cli"]
    good = subprocess.run([*command, *SLEEP], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert "1743.6" in good.stdout
    bad = subprocess.run([*command, "fit", "y ~ 1", "nowhere"], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert "Traceback" not in bad.stderr
