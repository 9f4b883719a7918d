"""Tables of fits against frozen values of lmerTest and lme4, in every format, and maketables' own table."""

import json
import re
import sys
from html import unescape
from pathlib import Path

import docx
import great_tables
import numpy as np
import pandas as pd
import pytest
from inference_fits import FITS, fit_of
from maketables import ETable

import mixedgen as mg
from mixedgen.errors import ArgumentError, ConvergenceWarning, NotAvailableError
from mixedgen.output import write

LME4 = {
    (f["model"], f["method"]): f
    for f in json.loads((Path(__file__).parent / "reference" / "lme4.json").read_text())["lme4"]
}
FIXED, RANDOM, STATISTICS = "Fixed effects", "Random effects", "Statistics"


@pytest.fixture
def two(sleepstudy) -> list[mg.Fit]:
    return [mg.lmm(f"Reaction ~ Days + ({effects}|Subject)", sleepstudy) for effects in ("1", "Days")]


def column(table, name: str = "(1)", part: str = FIXED) -> dict[str, str]:
    """Cells of a fit in a part of the table, without those that are empty."""
    cells = table.frame.loc[part, name].iloc[:, 0]
    return {row: text for row, text in cells.items() if text}


# -------------------------------------------------------------------------------------------------------- the cells
@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("model", ["sleepstudy", "cake_unbalanced", "crossed"])
def test_fixed_effects_are_those_of_lmertest(model, ddf):
    want = FITS[model, "reml"]
    table = mg.table(fit_of(model), ddf=ddf, digits=4).frame.loc[FIXED, "(1)"]
    assert list(table.index) == want["names"]
    for name, row in zip(
        want["names"], want["coefficients" if ddf == "satterthwaite" else "kenward_roger"], strict=True
    ):
        estimate, se, *_, p = row
        assert table.loc[name, "estimate (SE)"] == f"{estimate:.4f} ({se:.4f})"
        assert table.loc[name, "p"] == ("<0.001" if p < 0.001 else f"{p:.3f}")


def test_intervals_are_those_of_conf_int(two):
    table = mg.table(two, uncertainty="interval", level=0.9, ddf="kenward-roger").frame.loc[FIXED]
    for name, fit in zip(("(1)", "(2)"), two, strict=True):
        ends = fit.conf_int(0.1, ddf="kenward-roger")
        for row, (low, high) in zip(ends.index, ends.to_numpy(), strict=True):
            assert table.loc[row, name].iloc[0] == f"{fit.params[row]:.3f} [{low:.3f}, {high:.3f}]"
    assert list(table.columns.get_level_values(1))[:2] == ["estimate [90 % interval]", "p"]


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_random_effects_and_criteria_are_those_of_lme4(sleepstudy, method):
    want = LME4["sleepstudy_slope", method]
    fit = mg.lmm("Reaction ~ Days + (Days|Subject)", sleepstudy, method=method)
    table, r2 = mg.table(fit), fit.r2()
    sd = [f"{r['sdcor']:.3f}" for r in want["varcomp"]]
    labels = ["Subject: SD (Intercept)", "Subject: SD Days", "Subject: correlation (Intercept), Days", "Residual: SD"]
    assert column(table, part=RANDOM) == dict(zip(labels, sd, strict=True))
    assert column(table, part=STATISTICS) == {
        "Records": "180",
        "Levels of Subject": "18",
        "log-likelihood": f"{want['llf']:.3f}",
        "AIC": f"{want['aic']:.3f}",
        "BIC": f"{want['bic']:.3f}",
        "R² marginal": f"{r2.marginal:.3f}",
        "R² conditional": f"{r2.conditional:.3f}",
        "Method": method.upper(),
        "Converged": "yes",
    }


def test_fits_share_rows(two):
    frame = mg.table(two, names=["a", "b"], p_values=False).frame
    assert frame.columns.tolist() == [("a", "estimate (SE)"), ("b", "estimate (SE)")]
    assert frame.loc[(RANDOM, "Subject: SD Days")].tolist() == ["", f"{two[1].varcomp['sdcor'][1]:.3f}"]
    assert frame.loc[RANDOM].index[-1] == "Residual: SD"


def test_decimals_show_two_digits_of_a_small_standard_error(sleepstudy):
    fit = mg.lmm("y ~ Days + (1|Subject)", sleepstudy.assign(y=sleepstudy["Reaction"] / 1e5))
    assert column(mg.table(fit, digits=2))["Days"] == f"{fit.params['Days']:.7f} ({fit.bse['Days']:.7f})"
    assert column(mg.table(fit), part=RANDOM)["Residual: SD"] == f"{fit.scale**0.5:.5f}"


def test_coefficients_labels_rows_and_stars(two):
    table = mg.table(
        two,
        coefficients=["Days"],
        labels={"Days": "days of restriction"},
        stars=True,
        rows={"share": lambda f: f.vfun("Subject / (Subject + residual)").estimate if len(f.theta) == 2 else None},
    )
    assert column(table) == {"days of restriction": "10.467*** (0.804)"}
    icc = float(two[0].theta["Subject"] / two[0].theta.sum())
    assert column(table, part=STATISTICS)["share"] == f"{icc:.3f}"
    assert "share" not in column(table, "(2)", STATISTICS)
    assert column(mg.table(two, rows={"seed": [1, "x"]}), "(2)", STATISTICS)["seed"] == "x"


@pytest.mark.parametrize(("p", "mark"), [(0.0009, "***"), (0.009, "**"), (0.049, "*"), (0.051, "")])
def test_stars_stand_for_p(monkeypatch, two, p, mark):
    monkeypatch.setattr("mixedgen.inference.wald.t_tail", lambda t, df: np.full(len(t), p))
    assert column(mg.table(two[0], stars=True))["Days"] == f"10.467{mark} (0.804)"


def test_without_degrees_of_freedom_there_are_no_tests(two):
    table = mg.table(two, ddf=None)
    assert table.frame.columns.tolist() == [("(1)", "estimate (SE)"), ("(2)", "estimate (SE)")]
    assert "p-values" not in table.notes[0]


def test_parameters_of_correlation_have_rows(sleepstudy):
    fit = mg.lmm("Reaction ~ Days", sleepstudy, residual="ar1(Days|Subject)")
    variance, rho = fit.theta
    assert column(mg.table(fit), part=RANDOM) == {"Residual: SD": f"{variance**0.5:.3f}", "Residual: rho": f"{rho:.3f}"}
    by_day = mg.lmm("Reaction ~ Days + (1|Subject)", sleepstudy, residual="exp(Days)")
    rows = column(mg.table(by_day), part=RANDOM)
    assert list(rows)[1:] == ["Residual: log variance, level", "Residual: log variance, Days"]
    assert rows["Residual: log variance, Days"] == f"{by_day.theta['residual[Days]']:.3f}"


def test_unequal_standard_deviations_stay_beside_rho(sleepstudy):
    data = sleepstudy.assign(half=np.where(sleepstudy["Days"] < 5, "a", "b"))
    fit = mg.lmm("Reaction ~ Days + cs(0 + half|Subject)", data)
    rows = column(mg.table(fit), part=RANDOM)
    assert list(rows) == ["Subject: SD half[a]", "Subject: SD half[b]", "Subject: rho", "Residual: SD"]


def test_many_correlations_are_left_out_with_a_note():
    cake = mg.data.cake()
    cake["temperature"] = cake["temperature"].astype(str)
    fit = mg.MixedModel("angle ~ 1 + (0 + temperature|replicate)", cake).solve(
        {"replicate": np.eye(6) + 0.5, "residual": 20.0}
    )
    table = mg.table(fit)
    assert len(column(table, part=RANDOM)) == 7
    assert any("correlations of 'replicate' are not shown" in note for note in table.notes)


def test_restricted_parameters_are_named(sleepstudy):
    control = mg.Control(fix={"Subject[1,Days]": 0.0}, bound={"residual": (0.0, 600.0)})
    fit = mg.lmm("Reaction ~ Days + (Days|Subject)", sleepstudy, control=control)
    table = mg.table(fit)
    assert list(column(table, part=RANDOM)) == ["Subject: SD (Intercept)", "Subject: SD Days", "Residual: SD"]
    assert column(table, part=RANDOM)["Residual: SD"] == f"{600**0.5:.3f}"
    assert "(1): restricted beforehand: Subject[1,Days] = 0, 0 <= residual <= 600." in table.notes
    equal = mg.lmm("diameter ~ 1 + (1|plate) + (1|sample)", mg.data.penicillin())
    assert not any("restricted" in note for note in mg.table(equal).notes)


# ------------------------------------------------------------------------------------------------- what is compared
def test_notes_say_what_cannot_be_compared(sleepstudy, two):
    def has(fits, text):
        return any(text in note for note in mg.table(fits).notes)

    reml, ml = two[1], mg.lmm("Reaction ~ Days + (Days|Subject)", sleepstudy, method="ml")
    assert not any(has(two, text) for text in ("comparable", "differ"))
    assert has([reml, ml], "REML and of ML")
    assert has([reml, mg.lmm("Reaction ~ 1 + (1|Subject)", sleepstudy)], "restricted likelihoods")
    assert not has([ml, mg.lmm("Reaction ~ 1 + (1|Subject)", sleepstudy, method="ml")], "comparable")
    assert has([reml, mg.lmm("Reaction ~ Days + (1|Subject)", sleepstudy.iloc[20:])], "different records")
    assert has([reml, mg.lmm("log(Reaction) ~ Days + (1|Subject)", sleepstudy)], "(2): log(Reaction)")
    assert not has([reml, mg.lmm("Reaction ~ Days + (1|Subject)", sleepstudy[::-1])], "different records")


def test_notes_on_one_fit():
    dyestuff = mg.data.dyestuff2()
    formula = "Yield ~ 1 + (1|Batch)"
    model = mg.MixedModel(formula, dyestuff)
    with pytest.warns(ConvergenceWarning):
        short = mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy(), control=mg.Control(max_iter=1))
    assert "boundary (singular) fit" in " ".join(mg.table(model.fit()).notes)
    assert "variances are given" in " ".join(mg.table(model.solve({"Batch": 1.0, "residual": 13.0})).notes)
    assert "not converged" in " ".join(mg.table(short).notes)
    assert column(mg.table(short), part=STATISTICS)["Converged"] == "no"
    negative = mg.table(mg.lmm(formula, dyestuff, method="anova3"))
    assert "a variance is negative" in " ".join(negative.notes)
    assert column(negative, part=RANDOM)["Batch: SD (Intercept)"] == "–"
    moments = mg.table(mg.lmm(formula, mg.data.dyestuff(), method="anova3"))
    assert column(moments) == {"Intercept": "1527.500 (19.383)"}  # sqrt((5 1764.05 + 2451.25) / 30)
    assert "log-likelihood" not in column(moments, part=STATISTICS)
    aliased = mg.lmm("Reaction ~ Days + I(2 * Days) + (1|Subject)", mg.data.sleepstudy())
    assert "aliased" in " ".join(mg.table(aliased).notes)


# ------------------------------------------------------------------------------------------------------ the formats
@pytest.fixture
def table(two):
    return mg.table(two, names=["a_1", "b & <c>"], stars=True, title="Reaction of 18 drivers")


def texts_of_html(html: str) -> list[str]:
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", html, flags=re.DOTALL)
    return [unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in cells]


def test_markdown_has_every_cell(table):
    lines = [line for line in table.as_markdown().splitlines() if line.startswith("|")]
    rows = [[cell.strip().replace("\\", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    body = {row[0]: row[1:] for row in rows[2:] if not row[0].startswith("**")}
    assert body == {name: cells.tolist() for (_, name), cells in table.frame.iterrows()}
    assert rows[0][1:3] == ["a_1: estimate (SE)", "a_1: p"]
    assert table.as_markdown().startswith("**Reaction of 18 drivers**")


def test_html_has_every_cell(table):
    texts = texts_of_html(table.as_html())
    for (part, name), cells in table.frame.iterrows():
        at = texts.index(name, texts.index(part))
        assert texts[at + 1 : at + 5] == cells.tolist()
    assert "b & <c>" in texts
    assert set(table.notes) <= set(texts)
    assert texts_of_html(table._repr_html_()) == texts
    assert isinstance(table.as_gt(), great_tables.GT)


def test_latex_has_every_cell(table):
    latex = table.as_latex()
    assert r"a\_1" in latex
    assert r"b \& \textless{}c\textgreater{}" in latex
    lines = [line.strip().removesuffix(r"\\").split(" & ") for line in latex.splitlines() if " & " in line]
    rows = {line[0]: [text.strip().replace(r"\textless{}", "<") for text in line[1:]] for line in lines}
    for (_, name), cells in table.frame.iterrows():
        assert rows[name] == cells.tolist()


def test_text_has_title_cells_and_notes(table):
    text = str(table)
    assert text.splitlines()[0] == "Reaction of 18 drivers"
    assert repr(table) == text
    assert all(note in text for note in table.notes)


def test_files_hold_the_table(table, tmp_path):
    for ending, own in ((".html", "</table>"), (".tex", r"\bottomrule"), (".md", "|:--")):
        table.save(tmp_path / f"table{ending}")
        assert own in (tmp_path / f"table{ending}").read_text(encoding="utf-8")
    table.save(str(tmp_path / "table.docx"))
    word = docx.Document(str(tmp_path / "table.docx"))
    rows = {row.cells[0].text: [cell.text for cell in row.cells[1:]] for row in word.tables[0].rows}
    for (_, name), cells in table.frame.iterrows():
        assert rows[name] == cells.tolist()
    with pytest.raises(ArgumentError, match=".docx"):
        table.save(tmp_path / "table.xlsx")


@pytest.mark.parametrize(
    ("module", "install", "call"),
    [
        ("great_tables", "mixedgen[report]", lambda t, _: t.as_html()),
        ("great_tables", "mixedgen[report]", lambda t, _: t.as_latex()),
        ("tabulate", "mixedgen[report]", lambda t, _: t.as_markdown()),
        ("maketables", "maketables", lambda t, path: t.save(path / "t.docx")),
    ],
)
def test_a_package_that_is_not_there_is_named(table, tmp_path, monkeypatch, module, install, call):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NotAvailableError, match=re.escape(f'pip install "{install}"')):
        call(table, tmp_path)
    assert isinstance(str(table), str)
    if module == "great_tables":
        assert table._repr_html_() is None  # the notebook shows the text


def test_a_format_of_tables_is_one_function(table, tmp_path, monkeypatch):
    monkeypatch.setitem(write.TABLE_WRITERS, ".txt", write.as_file(str))
    table.save(tmp_path / "table.txt")
    assert (tmp_path / "table.txt").read_text(encoding="utf-8") == str(table)


def test_bad_requests(two):
    for options, message in (
        ({"names": ["a"]}, "2 different headings"),
        ({"names": ["a", "a"]}, "2 different headings"),
        ({"ddf": "residual"}, "ddf"),
        ({"uncertainty": "sd"}, "uncertainty"),
        ({"ddf": None, "stars": True}, "degrees of freedom"),
        ({"digits": -1}, "digits"),
        ({"level": 95}, "level"),
        ({"coefficients": ["Dais"]}, "'Dais'"),
        ({"labels": {"Dais": "x"}}, "'Dais'"),
        ({"labels": {"Days": "Intercept"}}, "another name"),
        ({"rows": {"x": [1]}}, "2 values"),
        ({"rows": {"AIC": [1, 2]}}, "another label"),
    ):
        with pytest.raises(ArgumentError, match=message):
            mg.table(two, **options)
    for wrong in ([], [two[0].summary()], "fit"):
        with pytest.raises(ArgumentError, match="fit or a sequence of fits"):
            mg.table(wrong)


# ------------------------------------------------------------------------------------------------------- maketables
def test_maketables_shows_coefficients_and_random_effects(sleepstudy):
    sleepstudy.attrs["variable_labels"] = {"Days": "Days of restriction"}
    fits = [mg.lmm(f"Reaction ~ Days + ({effects}|Subject)", sleepstudy) for effects in ("1", "Days")]
    fits.append(fit_of("cake_covariate"))
    frame = ETable([fit.maketables for fit in fits]).df
    assert list(frame.columns.get_level_values(0)) == ["Reaction", "Reaction", "angle"]
    days = frame.loc[("coef", "Days of restriction")]
    assert [re.sub(r"\s+", " ", v) for v in days] == ["10.467*** (0.804)", "10.467*** (1.546)", ""]
    statistics = frame.loc["stats"]
    want = fits[1].varcomp["sdcor"]
    assert statistics.loc["Subject: SD Days"].tolist() == ["-", f"{want[1]:.3f}", "-"]
    assert statistics.loc["Subject: correlation (Intercept), Days"].tolist() == ["-", f"{want[2]:.3f}", "-"]
    assert statistics.loc["Records"].tolist() == ["180", "180", str(fits[2].nobs)]
    assert statistics.loc["log-likelihood"].tolist() == [f"{fit.llf:.3f}" for fit in fits]
    assert frame.loc[("fe", "recipe:replicate (random)")].tolist() == ["-", "-", "x"]


def test_maketables_takes_tests_and_statistics_by_key(two):
    frame = ETable(
        [fit.maketables for fit in two],
        coef_fmt="b:.3f [ci95l:.3f, ci95u:.3f] p:.4f",
        model_stats=["reml", "converged", "se_type", "nothing"],
    ).df
    (low, high), p = two[1].conf_int().loc["Days"], two[1].pvalues["Days"]
    want = f"{two[1].params['Days']:.3f} [{low:.3f}, {high:.3f}] {p:.4f}"
    assert frame.loc[("coef", "Days")].iloc[1] == want
    assert frame.loc["stats"].iloc[:, 1].tolist() == ["1,743.63", "yes", "model-based, Satterthwaite", "-"]


def test_maketables_after_moments_has_no_p(sleepstudy):
    fit = mg.lmm("Yield ~ 1 + (1|Batch)", mg.data.dyestuff(), method="anova3")
    table = fit.maketables.__maketables_coef_table__
    assert table.loc["Intercept", ["b", "se"]].round(3).tolist() == [1527.5, 19.383]
    assert np.isnan(table.loc["Intercept", "p"])
    keys = fit.maketables.__maketables_default_stat_keys__
    assert keys[:5] == ["N", "Levels of Batch", "r2m", "r2c", "method"]
    assert fit.maketables.__maketables_stat__("r2c") == fit.r2().conditional
    assert mg.lmm("Reaction ~ Days", sleepstudy).maketables.__maketables_fixef_string__ is None
    assert fit.maketables.__maketables_vcov_info__["vcov_type"] == "model-based, moments"
    assert not hasattr(fit.maketables, "params")


def test_the_frame_is_text(table):
    assert all(isinstance(text, str) for text in table.frame.to_numpy().ravel())
    assert isinstance(table.frame, pd.DataFrame)
