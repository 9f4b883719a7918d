"""The shell command: results equal the public calls, mistakes are messages, files hold everything."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.cli.main import main
from mixedgen.inference import degrees
from mixedgen.output import files

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


def test_a_method_of_degrees_of_freedom_reaches_every_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = degrees.DdfMethod(
        "toy", "seven degrees of freedom", lambda i, L: replace(degrees.normal_t(i, L), df=0 * L[:, 0] + 7)
    )
    monkeypatch.setitem(degrees.DDF_METHODS, "toy", own)
    cake = mg.lmm("angle ~ recipe + temp + (1|recipe:replicate)", mg.data.cake())
    assert set(cake.anova(ddf="toy")["dendf"]) == {7.0}
    means = mg.emmeans(cake, "recipe", ddf="toy")
    assert set(means["df"]) == set(means.contrasts()["df"]) == {7.0}
    assert set(cake.tidy("fixed", ddf="toy")["df"]) == {7.0}
    assert "p-values by seven degrees of freedom" in mg.table(cake, ddf="toy").notes[0]
    assert main(["fit", "angle ~ recipe + temp + (1|recipe:replicate)", "cake", "--ddf", "toy"]) == 0
    assert capsys.readouterr().out.strip() == str(cake.summary(ddf="toy")).strip()


def test_a_format_of_files_takes_fits_and_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(files.FRAME_WRITERS, ".tsv", lambda frame, path: frame.to_csv(path, sep="\t", index=False))
    for command in ("fit", "blup"):
        path = tmp_path / f"{command}.tsv"
        assert main([command, *SLEEP[1:], "-o", str(path)]) == 0
        assert "value" in pd.read_csv(path, sep="\t").columns


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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Mrode's calves, their pedigree, and genotypes of six of its animals."""
    monkeypatch.chdir(tmp_path)
    mg.data.mrode_pedigree().to_csv("ped.csv", index=False)
    mg.data.mrode_calves().to_csv("calves.csv", index=False)
    genotypes().to_csv("chip.csv", index_label="id")
    return tmp_path


def genotypes() -> pd.DataFrame:
    copies = np.random.default_rng(4).integers(0, 3, (6, 40))
    return pd.DataFrame(copies, index=list(range(3, 9)), columns=[f"s{k}" for k in range(40)])


BOTH = ["--pedigree", "ped.csv", "--genotypes", "chip.csv"]


def calf_blup(name: str) -> list[str]:
    variances = f"calf:{name}=20,residual=40"
    return ["blup", f"wwg ~ 0 + sex + (1|calf:{name})", "calves.csv", "--variances", variances, "-o", "ebv.csv"]


RELATIONSHIPS = {
    "A": lambda ped, M: mg.additive(ped),
    "D": lambda ped, M: mg.dominance(ped),
    "G": lambda ped, M: mg.genomic(M),
    "H": lambda ped, M: mg.single_step(ped, M),
    "M": lambda ped, M: mg.markers(M),
}


@pytest.mark.parametrize("name", list(RELATIONSHIPS))
def test_each_fixed_name_binds_its_relationship(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*calf_blup(name), *BOTH]) == 0
    K = RELATIONSHIPS[name](mg.Pedigree(mg.data.mrode_pedigree()), mg.Genotypes(genotypes()))
    calves = pd.read_csv("calves.csv")
    model = mg.MixedModel(f"wwg ~ 0 + sex + (1|calf:{name})", calves, relationships={name: K})
    expected = model.solve({f"calf:{name}": 20.0, "residual": 40.0}).blup(f"calf:{name}")
    found = pd.read_csv("ebv.csv")
    assert found["value"].is_monotonic_decreasing
    values = found.astype({"level": str}).set_index("level")["value"]
    expected_values = expected.astype({"level": str}).set_index("level")["value"]
    pd.testing.assert_series_equal(values.sort_index(), expected_values.sort_index(), rtol=1e-10)
    out, err = capsys.readouterr()
    assert "at given variances" in out
    assert err.count("warning") == (0 if name == "H" else 1)  # the file that nothing links to


def test_blup_table_of_the_textbook(folder: Path) -> None:
    assert main([*calf_blup("A"), "--pedigree", "ped.csv"]) == 0
    found = pd.read_csv("ebv.csv")
    columns = ["term", "level", "effect", "value", "se", "pev", "reliability", "accuracy", "n_records", "inbreeding"]
    assert list(found) == columns
    assert found["level"].tolist() == [8, 6, 1, 4, 2, 3, 5, 7]
    assert found["value"].round(3).tolist() == [0.183, 0.177, 0.098, -0.009, -0.019, -0.041, -0.186, -0.249]


def test_blup_selects_ids_of_a_list_or_a_file(folder: Path) -> None:
    (folder / "ids.txt").write_text("7\n 4 \n\n1,8\n")
    assert main([*calf_blup("A"), "--pedigree", "ped.csv", "--select", "1,4,7,8"]) == 0
    listed = pd.read_csv("ebv.csv")
    assert main([*calf_blup("A"), "--pedigree", "ped.csv", "--select", "ids.txt"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv("ebv.csv"), listed)
    assert listed["level"].tolist() == [8, 1, 4, 7]
    assert main([*calf_blup("A"), "--pedigree", "ped.csv", "--select", "ids.txt", "--top", "2"]) == 0
    assert pd.read_csv("ebv.csv")["level"].tolist() == [8, 1]


def test_blup_estimates_where_no_variance_is_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = animal_records()
    records.to_csv("records.csv", index=False)
    formula = "y ~ 1 + (1|animal:A) + (1|animal)"
    command = ["blup", formula, "records.csv", "--pedigree", "ped.csv", "--select", "2,3", "-o", "ebv.json"]
    assert main(command) == 0
    assert "fit by REML" in capsys.readouterr().out
    found = pd.DataFrame(json.loads(Path("ebv.json").read_text()))
    assert found.groupby("term")["level"].apply(sorted).to_dict() == {"animal": ["2", "3"], "animal:A": ["2", "3"]}
    fit = mg.lmm(formula, records, relationships={"A": mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))})
    expected = fit.blup("animal:A").set_index("level").loc[[2, 3], "value"].tolist()
    assert found[found["term"] == "animal:A"].sort_values("level")["value"].tolist() == pytest.approx(expected)


def test_blup_gives_animals_in_place_of_markers(folder: Path) -> None:
    command = [*calf_blup("M"), "--genotypes", "chip.csv"]
    assert main([*command, "--select", "3,8"]) == 2
    assert main([*command, "--select", "3,8", "--animals"]) == 0
    assert sorted(pd.read_csv("ebv.csv")["level"]) == [3, 8]


def test_blup_takes_covariance_matrices(tmp_path: Path) -> None:
    given = "Subject=[[612.09,9.6043],[9.6043,35.0717]],residual=654.941"
    output = tmp_path / "ebv.csv"
    assert main(["blup", SLEEP[1], "sleepstudy", "--variances", given, "-o", str(output)]) == 0
    model = mg.MixedModel(SLEEP[1], mg.data.sleepstudy())
    expected = model.solve({"Subject": [[612.09, 9.6043], [9.6043, 35.0717]], "residual": 654.941}).blup("Subject")
    assert pd.read_csv(output)["value"].sum() == pytest.approx(expected["value"].sum(), abs=1e-8)


def test_groups_are_ranked_by_total(folder: Path) -> None:
    frame = mg.data.mrode_pedigree().astype({"sire": object, "dam": object})
    frame["sire"] = frame["sire"].where(~frame["sire"].isin([0, "0"]) & frame["sire"].notna(), "G1")
    frame["dam"] = frame["dam"].where(~frame["dam"].isin([0, "0"]) & frame["dam"].notna(), "G2")
    frame.to_csv("groups.csv", index=False)
    assert main([*calf_blup("A"), "--pedigree", "groups.csv", "--groups", "G1,G2", "--unmatched", "omit"]) == 0
    found = pd.read_csv("ebv.csv")
    assert found["total"].is_monotonic_decreasing
    assert not found["total"].equals(found["value"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--genotypes", "chip.csv"], "made of --pedigree"),
        (["--pedigree", "ped.csv", "--select", "1,99"], "'99'"),
        (["--pedigree", "ped.csv", "--select", " , "], "names no id"),
        (["--pedigree", "ped.csv", "-o", "ebv.xlsx"], ".csv, .json, .parquet"),
        (["--pedigree", "ped.csv", "--variances", "cow:A=20,residual=40"], "cow:A"),
        (["--pedigree", "ped.csv", "--subset", "calf < 0"], "no row"),
    ],
)
def test_mistakes_in_a_blup_are_messages(
    folder: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*calf_blup("A"), *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mixedgen: error: ")
    assert message in err


def test_a_column_called_as_a_relationship_is_ambiguous(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.read_csv("calves.csv").assign(A=1).to_csv("calves.csv", index=False)
    assert main([*calf_blup("A"), "--pedigree", "ped.csv"]) == 2
    assert "both a relationship and a column" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["animal:A", "animal:A=twenty", "animal:A=1,animal:A=2", "=3", "a=1;b=2"])
def test_unreadable_variances_exit_with_usage(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*calf_blup("A"), "--pedigree", "ped.csv", "--variances", text])
    assert stop.value.code == 2
    assert "animal:A=20,residual=40" in capsys.readouterr().err


def test_unmatched_records_are_left_out_on_request(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.concat([pd.read_csv("calves.csv"), pd.DataFrame({"calf": [77], "sex": ["M"], "wwg": [9.0]})]).to_csv(
        "calves.csv"
    )
    assert main([*calf_blup("A"), "--pedigree", "ped.csv"]) == 2
    assert "77" in capsys.readouterr().err
    assert main([*calf_blup("A"), "--pedigree", "ped.csv", "--unmatched", "omit"]) == 0
    assert "Number of obs: 5" in capsys.readouterr().out


def test_check_reports_what_matches(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "calves.csv", "--id", "calf", *BOTH]) == 0
    out = capsys.readouterr().out
    assert "5 in data and pedigree and genotypes" in out
    assert "8 animals, 3 founders, 3 generations" in out
    assert "marker: monomorphic" in out
    assert main(["check", "calves.csv", *BOTH]) == 0  # the column with the most ids
    assert capsys.readouterr().out == out


def test_check_finds_what_does_not_match(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calves = pd.read_csv("calves.csv")
    calves.assign(calf=[f"0{calf}" for calf in calves["calf"]], weight=1).to_csv("padded.csv", index=False)
    Path("padded.csv").write_text(Path("padded.csv").read_text().replace("08", "x8"))
    assert main(["check", "padded.csv", "--id", "calf", "--pedigree", "ped.csv"]) == 1
    out = capsys.readouterr().out
    assert "'x8'" in out
    assert "zero padding" in out
    assert main(["check", "padded.csv", "--id", "calf", "--pedigree", "ped.csv", "--unmatched", "omit"]) == 0
    genotypes().rename(index={3: 30}).to_csv("chip.csv", index_label="id")
    assert main(["check", "calves.csv", "--id", "calf", *BOTH]) == 1
    assert main(["check", "calves.csv", "--id", "calf", "--genotypes", "chip.csv"]) == 0


def test_check_counts_what_the_pedigree_and_the_markers_hold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"id": [3, 4, 4], "sire": [1, 1, 1], "dam": [2, 3, 3]}).to_csv("ped.csv", index=False)
    genotypes().loc[[3, 4]].assign(s1=2, s2=-9).to_csv("chip.csv", index_label="id")
    pd.DataFrame({"animal": [3, 4], "y": [1.0, 2.0]}).to_csv("records.csv", index=False)
    assert main(["check", "records.csv", *BOTH]) == 0
    out = capsys.readouterr().out
    assert "4 animals, 2 founders, 3 generations" in out
    assert "2 parents without a row" in out
    assert "1 repeated rows" in out
    assert "1 inbred animals, inbreeding 0.2500" in out
    assert "1  marker: call rate below 0.9" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calves.csv"], "nothing to compare"),
        (["calves.csv", "--pedigree", "ped.csv", "--id", "cow"], "'cow'"),
        (["calves.csv", "--pedigree", "nowhere.csv"], "nowhere.csv"),
        (["loop.csv", "--pedigree", "loop.csv"], "own"),
    ],
)
def test_check_of_what_cannot_be_read_is_an_error(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"id": [1], "sire": [1], "dam": [0]}).to_csv("loop.csv", index=False)
    assert main(["check", *arguments]) == 2
    assert message in capsys.readouterr().err


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
    monkeypatch.setattr("mixedgen.cli.sources.Control", lambda **options: stopped_early)
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
