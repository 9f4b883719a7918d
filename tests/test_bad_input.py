"""Whatever does not fit raises a MixedgenError that says what, where and what to do, and leaves the data alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg

FORMULA = "Reaction ~ Days + (Days|Subject)"
INTERCEPT = "Reaction ~ Days + (1|Subject)"
CALVES = "wwg ~ sex + (1|calf:A)"
VARIANCES = {"Subject": 600.0, "residual": 650.0}
NAN, INF = float("nan"), float("inf")


def sleep(**columns: Any) -> pd.DataFrame:
    return mg.data.sleepstudy().assign(**columns)


def sleep_with(value: float, column: str, rows: list[int]) -> pd.DataFrame:
    frame = mg.data.sleepstudy().astype({"Days": float})
    frame.loc[rows, column] = value
    return frame


def additive() -> mg.Relationship:
    return mg.additive(mg.Pedigree(mg.data.mrode_pedigree()))


def calves(**columns: Any) -> pd.DataFrame:
    return mg.data.mrode_calves().assign(**columns)


def refused(error: type[mg.MixedgenError], words: list[str], call: Callable[[], Any]) -> None:
    """The call raises exactly this child of MixedgenError, and its message holds each of the words."""
    with pytest.raises(mg.MixedgenError) as caught:
        call()
    assert caught.type is error, f"{caught.type.__name__}: {caught.value}"
    for word in words:
        assert word in str(caught.value)


# The frame

MISSING = sleep(z=np.nan)
HALVES = sleep(
    z=np.where(mg.data.sleepstudy()["Days"] < 5, np.nan, 1.0),
    Reaction=mg.data.sleepstudy()["Reaction"].where(mg.data.sleepstudy()["Days"] < 5),
)
DATA_CASES: list[tuple[str, str, Any, dict[str, Any], type[mg.MixedgenError], list[str]]] = [
    (
        "misspelt response",
        "Reacton ~ Days + (1|Subject)",
        sleep(),
        {},
        mg.DataError,
        ["Reacton", "Did you mean 'Reaction'"],
    ),
    ("misspelt covariate", "Reaction ~ Dais + (1|Subject)", sleep(), {}, mg.DataError, ["Dais", "Did you mean 'Days'"]),
    ("misspelt slope", "Reaction ~ Days + (Dayz|Subject)", sleep(), {}, mg.DataError, ["Dayz", "Did you mean 'Days'"]),
    (
        "misspelt group",
        "Reaction ~ Days + (1|Subjct)",
        sleep(),
        {},
        mg.DataError,
        ["Subjct", "right of a bar", "Did you mean 'Subject'"],
    ),
    (
        "misspelt in numpy",
        "Reaction ~ np.log(Dais) + (1|Subject)",
        sleep(),
        {},
        mg.DataError,
        ["Dais", "Did you mean 'Days'"],
    ),
    ("misspelt in C", "Reaction ~ C(Dais) + (1|Subject)", sleep(), {}, mg.DataError, ["Dais", "Did you mean 'Days'"]),
    (
        "misspelt in a spline",
        "Reaction ~ bs(Dais, df=4) + (1|Subject)",
        sleep(),
        {},
        mg.DataError,
        ["Dais", "Did you mean 'Days'"],
    ),
    (
        "misspelt offset",
        "Reaction ~ offset(Dais) + (1|Subject)",
        sleep(),
        {},
        mg.DataError,
        ["Dais", "Did you mean 'Days'"],
    ),
    (
        "misspelt weights",
        FORMULA,
        sleep(),
        {"weights": "Dais"},
        mg.DataError,
        ["Dais", "weights", "Did you mean 'Days'"],
    ),
    (
        "misspelt residual",
        FORMULA,
        sleep(),
        {"residual": "diag(Dais)"},
        mg.DataError,
        ["Dais", "residual", "Did you mean 'Days'"],
    ),
    (
        "misspelt contrasts",
        FORMULA,
        sleep(),
        {"contrasts": {"Dais": "sum"}},
        mg.DataError,
        ["Dais", "contrasts", "Did you mean 'Days'"],
    ),
    ("absent group", FORMULA, sleep().drop(columns="Subject"), {}, mg.DataError, ["Subject", "Reaction, Days"]),
    ("no value in x", "Reaction ~ Days + z + (1|Subject)", MISSING, {}, mg.DataError, ["'z'", "every row is missing"]),
    ("no value in y", "z ~ Days + (1|Subject)", MISSING, {}, mg.DataError, ["'z'", "every row is missing"]),
    ("no value in the group", "Reaction ~ Days + (1|z)", MISSING, {}, mg.DataError, ["'z'", "every row is missing"]),
    ("no value in the weights", FORMULA, MISSING, {"weights": "z"}, mg.DataError, ["'z'", "every row is missing"]),
    ("no complete row", "Reaction ~ Days + z + (1|Subject)", HALVES, {}, mg.DataError, ["'z': 90", "'Reaction': 90"]),
    (
        "infinite y",
        FORMULA,
        sleep_with(INF, "Reaction", [3, 7]),
        {},
        mg.DataError,
        ["'Reaction'", "2 rows: 3, 7", "drop"],
    ),
    ("infinite x", FORMULA, sleep_with(-INF, "Days", [3, 7]), {}, mg.DataError, ["'Days'", "infinite"]),
    (
        "infinite slope",
        "Reaction ~ 1 + (Days|Subject)",
        sleep_with(INF, "Days", [0]),
        {},
        mg.DataError,
        ["'Days'", "infinite"],
    ),
    ("infinite weights", FORMULA, sleep(w=INF), {"weights": "w"}, mg.DataError, ["weights", "180 rows", "infinite"]),
    (
        "infinite offset",
        "Reaction ~ offset(o) + (1|Subject)",
        sleep(o=INF),
        {},
        mg.DataError,
        ["offset(o)", "infinite"],
    ),
    ("text y", FORMULA, sleep(Reaction="250 ms"), {}, mg.DataError, ["'Reaction'", "'250 ms'", "pd.to_numeric"]),
    ("numbers as text", FORMULA, sleep(Reaction="250"), {}, mg.DataError, ["'Reaction'", "pd.to_numeric"]),
    ("categorical y", "Subject ~ Days + (1|Days)", sleep(), {}, mg.DataError, ["'Subject'", "must be numeric"]),
    ("complex y", FORMULA, sleep(Reaction=1j), {}, mg.DataError, ["'Reaction'", "must be numeric"]),
    ("text weights", FORMULA, sleep(w="a"), {"weights": "w"}, mg.DataError, ["weights", "'a'", "must be numeric"]),
    (
        "text offset",
        "Reaction ~ offset(o) + (1|Subject)",
        sleep(o="a"),
        {},
        mg.DataError,
        ["offset(o)", "'a'", "must be numeric"],
    ),
    (
        "weights of zero",
        FORMULA,
        sleep(),
        {"weights": "Days"},
        mg.DataError,
        ["weights must be positive", "18", "subset"],
    ),
    (
        "negative weights",
        FORMULA,
        sleep(),
        {"weights": np.full(180, -1.0)},
        mg.DataError,
        ["weights must be positive", "180"],
    ),
    ("too few weights", FORMULA, sleep(), {"weights": np.ones(3)}, mg.ArgumentError, ["weights", "(3,)", "180 rows"]),
    ("empty frame", FORMULA, sleep().iloc[:0], {}, mg.DataError, ["no rows"]),
    ("empty mapping", FORMULA, {}, {}, mg.DataError, ["no rows"]),
    ("ragged mapping", FORMULA, {"Reaction": [1.0, 2.0], "Days": [1], "Subject": [1, 2]}, {}, mg.DataError, ["length"]),
    (
        "repeated column",
        FORMULA,
        pd.concat([sleep(), sleep()[["Days"]]], axis=1),
        {},
        mg.DataError,
        ["twice", "'Days'"],
    ),
    ("list for a frame", FORMULA, [1, 2], {}, mg.DataError, ["list", "data frame"]),
    ("nothing for a frame", FORMULA, None, {}, mg.DataError, ["NoneType", "data frame"]),
    ("path that is not there", FORMULA, "no_such_file.csv", {}, mg.DataError, ["no_such_file.csv"]),
    ("folder for a file", FORMULA, Path(), {}, mg.DataError, ["'.'"]),
]


@pytest.mark.parametrize(
    ("formula", "data", "options", "error", "words"), [pytest.param(*c[1:], id=c[0]) for c in DATA_CASES]
)
def test_data_that_do_not_fit(
    formula: str, data: Any, options: dict[str, Any], error: type[mg.MixedgenError], words: list[str]
) -> None:
    before = data.copy() if isinstance(data, pd.DataFrame) else None
    refused(error, words, lambda: mg.lmm(formula, data, **options))
    if before is not None:
        pd.testing.assert_frame_equal(data, before)


# The formula

FORMULA_CASES: list[tuple[str, type[mg.MixedgenError], list[str]]] = [
    ("Reaction ~ Days + (Days|Subject", mg.FormulaError, ["'(' is opened but not closed", "^"]),
    ("Reaction ~ Days + Days|Subject)", mg.FormulaError, ["')' closes nothing", "^"]),
    ("Reaction ~ Days - (1|Subject)", mg.FormulaError, ["subtracted", "leave it out"]),
    ("Reaction ~ Days * (1|Subject)", mg.FormulaError, ["'*'", "'+'"]),
    ("Reaction ~ Days:(1|Subject)", mg.FormulaError, ["':'", "'+'"]),
    ("Reaction ~ Days | Subject", mg.FormulaError, ["parentheses", "(1|group)"]),
    ("Reaction ~ Days + (1|Subject) + (1|Subject)", mg.FormulaError, ["stands twice", "(1|Subject)", "leave one out"]),
    ("Reaction ~ Days + (1|Subject|Days)", mg.FormulaError, ["one bar"]),
    ("Reaction ~ Days + (|Subject)", mg.FormulaError, ["left of the bar"]),
    ("Reaction ~ Days + (1|)", mg.FormulaError, ["right of the bar"]),
    ("Reaction ~ Days + (0|Subject)", mg.FormulaError, ["no effect"]),
    ("Reaction Days", mg.FormulaError, ["'~' is missing"]),
    ("Reaction ~ Days ~ (1|Subject)", mg.FormulaError, ["one '~'"]),
    ("~ Days + (1|Subject)", mg.FormulaError, ["response is missing"]),
    ("Reaction ~", mg.FormulaError, ["right of '~'"]),
    ("", mg.FormulaError, ["'~' is missing"]),
    ("Reaction ~ 0", mg.DesignError, []),
    ("Reaction ~ . + (1|Subject)", mg.FormulaError, ["'.'", "name the columns"]),
    ("Reaction ~ Days + foo(1|Subject)", mg.FormulaError, ["foo", "us, diag"]),
    ("Reaction ~ Days + diag(1|Subject, het=True)", mg.FormulaError, ["het=True", "'hom'"]),
    ("Reaction ~ Days + us(1|Subject, hom=True)", mg.FormulaError, ["hom=True", "no argument"]),
    ("Reaction ~ Days + diag(Days|Subject, hom=1)", mg.FormulaError, ["hom=1", "True or False"]),
    ("Reaction ~ Days + fa(Days|Subject)", mg.FormulaError, ["fa", "not identified", "us(...)"]),
    ("Reaction ~ Days + rr(Days|Subject, k=3)", mg.FormulaError, ["rr", "k=3", "2 effects"]),
    ("Reaction ~ Days + cs(1|Subject)", mg.FormulaError, ["cs()", "two effects"]),
    ("Reaction ~ us(leg(Days, -1)|Subject)", mg.DataError, ["leg", "whole number"]),
    ("Reaction + Days ~ (1|Subject)", mg.FormulaError, ["cbind(Reaction, Days)"]),
    ("Reaction ~ Days + (1|Subject:A)", mg.FormulaError, ["'A'", "relationships={'A': ...}"]),
]


@pytest.mark.parametrize(("formula", "error", "words"), [pytest.param(*c, id=c[0] or "empty") for c in FORMULA_CASES])
def test_formulas_that_mean_nothing(formula: str, error: type[mg.MixedgenError], words: list[str]) -> None:
    frame = mg.data.sleepstudy()
    refused(error, words, lambda: mg.lmm(formula, frame))
    pd.testing.assert_frame_equal(frame, mg.data.sleepstudy())


def test_a_formula_is_text() -> None:
    refused(mg.ArgumentError, ["formula", "int"], lambda: mg.lmm(5, mg.data.sleepstudy()))  # type: ignore[arg-type]


RESIDUAL_CASES = [
    ("ar1(Days)", ["ar1(Days)", "units", "ar1(Days|unit)"]),
    ("us(Days)", ["us(Days)", "units"]),
    ("rr(Days|Subject, k=2)", ["rr"]),
    ("diag(Days|Subject)", ["diag(Days)", "leave out"]),
    ("idv(Days):diag(Subject)", ["has no correlation"]),
    ("foo(Days)", ["foo(Days)", "diag()"]),
    ("Days", ["'Days'", "diag()"]),
    ("diag(Days", ["not closed"]),
    ("diag(Days, hom=2)", ["hom=2", "True or False"]),
    ("", ["missing", "diag()"]),
]


@pytest.mark.parametrize(("residual", "words"), [pytest.param(*c, id=c[0] or "empty") for c in RESIDUAL_CASES])
def test_residual_structures_that_are_refused(residual: str, words: list[str]) -> None:
    refused(mg.FormulaError, words, lambda: mg.lmm(FORMULA, mg.data.sleepstudy(), residual=residual))


# What data cannot estimate


def test_one_level() -> None:
    refused(mg.DesignError, ["'g'", "one level", "'a'"], lambda: mg.lmm("Reaction ~ Days + (1|g)", sleep(g="a")))


@pytest.mark.parametrize(
    ("formula", "levels"), [("Reaction ~ Days + (1|id)", 180), ("Reaction ~ Days + (Days|id)", 90)]
)
def test_as_many_effects_as_records(formula: str, levels: int) -> None:
    frame = sleep(id=np.arange(180) * levels // 180)
    refused(
        mg.DesignError,
        ["'id'", f"{levels} levels", "180 records", "relationship", "solve"],
        lambda: mg.lmm(formula, frame),
    )
    given = mg.MixedModel(formula, frame).solve({"id": 600.0, "residual": 650.0})  # known variances need no estimation
    assert np.isfinite(given.llf) and given.converged and given.certificate is None


@pytest.mark.parametrize("value", [0.0, 5.0, 1e8 / 3, -1e-12])
def test_constant_response(value: float) -> None:
    refused(mg.DesignError, ["constant"], lambda: mg.lmm(FORMULA, sleep(Reaction=value)))


def test_response_that_the_fixed_effects_fit() -> None:
    frame = sleep(y=3.0 + 2.0 * mg.data.sleepstudy()["Days"])
    refused(mg.DesignError, ["fit the response exactly"], lambda: mg.lmm("y ~ Days + (1|Subject)", frame))


def test_as_many_fixed_effects_as_records() -> None:
    refused(
        mg.DesignError,
        ["180 records", "180", "smaller"],
        lambda: mg.lmm("Reaction ~ Subject * C(Days) + (1|Subject)", sleep()),
    )


def test_group_with_the_name_of_the_residual() -> None:
    """`solve` and `vfun` could not tell the two variances apart."""
    frame = mg.data.sleepstudy().rename(columns={"Subject": "residual"})
    refused(mg.DesignError, ["'residual'", "rename"], lambda: mg.MixedModel("Reaction ~ Days + (1|residual)", frame))


def test_flat_likelihood_is_not_certified() -> None:
    frame = sleep(z=0.0)
    with pytest.warns(mg.ConvergenceWarning, match="flat along Subject.1"):
        fit = mg.lmm("Reaction ~ Days + (1|Subject) + (0 + z|Subject)", frame)
    assert not fit.converged and not fit.certificate.converged


def test_too_few_steps_are_not_certified() -> None:
    with pytest.warns(mg.ConvergenceWarning, match="stopped after 2 steps"):
        fit = mg.lmm(FORMULA, sleep(), control=mg.Control(max_iter=2))
    assert not fit.converged and len(fit.history) == 2


# Relationships

RELATIONSHIP_CASES: list[tuple[str, str, pd.DataFrame, Any, type[mg.MixedgenError], list[str]]] = [
    (
        "unused",
        "wwg ~ sex + (1|sire)",
        calves(),
        {"A": additive()},
        mg.RelationshipError,
        ["'A'", "no random term uses", "(1|column:A)"],
    ),
    (
        "not there",
        CALVES,
        calves(calf=[4, 5, 6, 77, 99]),
        {"A": additive()},
        mg.RelationshipError,
        ["2 levels", "'calf'", "77, 99", "Add them"],
    ),
    (
        "zeros before",
        CALVES,
        calves(calf=[f"0{k}" for k in range(4, 9)]),
        {"A": additive()},
        mg.RelationshipError,
        ["5 by zero padding", "'04' ~ 4", "convert"],
    ),
    ("no link", CALVES, calves(), None, mg.FormulaError, ["'A'", "relationships={'A': ...}"]),
    (
        "name of a column",
        "wwg ~ sex + (1|calf:sire)",
        calves(),
        {"sire": additive()},
        mg.FormulaError,
        ["'sire'", "rename"],
    ),
    ("no column", "wwg ~ sex + (1|A)", calves(), {"A": additive()}, mg.FormulaError, ["'A'", "(1|column:A)"]),
    ("interaction", "wwg ~ 1 + (wwg|sex:calf:A)", calves(), {"A": additive()}, mg.FormulaError, ["interaction"]),
    ("nested", "wwg ~ 1 + (1|sex/calf:A)", calves(), {"A": additive()}, mg.FormulaError, ["(1|sex) + (1|calf:A)"]),
    ("a bare array", CALVES, calves(), {"A": np.eye(8)}, mg.ArgumentError, ["'A'", "ndarray"]),
    (
        "a pedigree",
        CALVES,
        calves(),
        {"A": mg.Pedigree(mg.data.mrode_pedigree())},
        mg.ArgumentError,
        ["'A'", "Pedigree", "additive"],
    ),
    ("no mapping", CALVES, calves(), additive(), mg.ArgumentError, ["relationships"]),
]


@pytest.mark.parametrize(
    ("formula", "data", "relationships", "error", "words"), [pytest.param(*c[1:], id=c[0]) for c in RELATIONSHIP_CASES]
)
def test_relationships_that_do_not_fit(
    formula: str, data: pd.DataFrame, relationships: Any, error: type[mg.MixedgenError], words: list[str]
) -> None:
    refused(error, words, lambda: mg.MixedModel(formula, data, relationships=relationships))


# Arguments and control

ARGUMENT_CASES: list[tuple[str, dict[str, Any], type[mg.MixedgenError], list[str]]] = [
    ("method", {"method": "minque0"}, mg.ArgumentError, ["'minque0'", "reml, ml"]),
    ("na_action", {"na_action": "fail"}, mg.ArgumentError, ["'fail'", "'omit'", "'exclude'"]),
    ("contrast", {"contrasts": {"Days": "foo"}}, mg.FormulaError, ["'foo'", "'Days'", "treatment, sum"]),
    ("subset names no column", {"subset": "Dais > 2"}, mg.ArgumentError, ["Dais"]),
    ("subset is no expression", {"subset": "Days >"}, mg.ArgumentError, ["Days >"]),
    ("subset is no condition", {"subset": "Days"}, mg.ArgumentError, ["'Days'"]),
    ("subset of another length", {"subset": np.ones(3, dtype=bool)}, mg.ArgumentError, ["3 entries", "180 rows"]),
    ("subset of text", {"subset": ["a", "b"]}, mg.ArgumentError, ["mask", "positions"]),
    ("subset of fractions", {"subset": [1.5, 2.5]}, mg.ArgumentError, ["mask", "positions"]),
    ("subset beyond the end", {"subset": [0, 1, 500]}, mg.ArgumentError, ["500", "180"]),
    ("subset of a row twice", {"subset": [0, 0, 1, 2]}, mg.ArgumentError, ["0", "twice"]),
    ("subset of no row", {"subset": "Days > 99"}, mg.DataError, ["subset", "Days > 99"]),
    ("engine", {"control": mg.Control(engine="iterative")}, mg.ArgumentError, ["'iterative'", "henderson, dense"]),
    ("control is no Control", {"control": {"tol": 1e-8}}, mg.ArgumentError, ["control", "dict"]),
    ("constraint", {"control": mg.Control(constraints=("foo",))}, mg.DesignError, ["'foo'", "'Intercept', 'Days'"]),
    (
        "constraint on a free column",
        {"control": mg.Control(constraints=("Days",))},
        mg.DesignError,
        ["'Days'", "formula"],
    ),
    (
        "start of no term",
        {"control": mg.Control(start={"Subj": 1.0})},
        mg.ArgumentError,
        ["'Subj'", "'Subject', 'residual'"],
    ),
    (
        "start of another shape",
        {"control": mg.Control(start={"Subject": np.eye(3)})},
        mg.ArgumentError,
        ["(3, 3)", "2 x 2"],
    ),
    (
        "indefinite start",
        {"control": mg.Control(start={"Subject": [[1, 2], [2, 1]]})},
        mg.ArgumentError,
        ["'Subject'", "semi-definite"],
    ),
    ("negative start", {"control": mg.Control(start={"residual": -1.0})}, mg.ArgumentError, ["'residual'"]),
    ("undefined start", {"control": mg.Control(start={"Subject": NAN})}, mg.ArgumentError, ["'Subject'"]),
    ("start without names", {"control": mg.Control(start=[1.0, 2.0])}, mg.ArgumentError, ["start"]),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("options", "error", "words"), [pytest.param(*c[1:], id=c[0]) for c in ARGUMENT_CASES])
def test_arguments_that_do_not_fit(options: dict[str, Any], error: type[mg.MixedgenError], words: list[str]) -> None:
    refused(error, words, lambda: mg.lmm(FORMULA, mg.data.sleepstudy(), **options))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"optimiser": "bobyqa"}, "'bobyqa'"),
        ({"tol": 0.0}, "tol"),
        ({"tol": NAN}, "tol"),
        ({"tol": -1.0}, "-1"),
        ({"max_iter": 0}, "max_iter"),
    ],
)
def test_control_checks_its_values(options: dict[str, Any], word: str) -> None:
    refused(mg.ArgumentError, [word], lambda: mg.Control(**options))


def test_unknown_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match="familly"):
        mg.lmm(FORMULA, mg.data.sleepstudy(), familly="gaussian")  # type: ignore[call-arg]


VARIANCE_CASES: list[tuple[str, Any, list[str]]] = [
    ("lacking", {"Subject": 1.0}, ["'residual'", "lacking"]),
    ("none", {}, ["'Subject', 'residual'", "lacking"]),
    ("unknown", {**VARIANCES, "herd": 1.0}, ["'herd'", "'Subject', 'residual'"]),
    ("no names", [600.0, 650.0], ["variances"]),
    ("another shape", {**VARIANCES, "Subject": np.eye(3)}, ["'Subject'", "(3, 3)", "2 x 2"]),
    ("ragged", {**VARIANCES, "Subject": [[1.0, 2.0], [3.0]]}, ["'Subject'"]),
    ("text", {**VARIANCES, "Subject": "large"}, ["'Subject'"]),
    ("nothing", {**VARIANCES, "Subject": None}, ["'Subject'"]),
    ("asymmetric", {**VARIANCES, "Subject": [[1.0, 0.5], [0.2, 1.0]]}, ["'Subject'", "us()"]),
    ("indefinite", {**VARIANCES, "Subject": [[1.0, 2.0], [2.0, 1.0]]}, ["'Subject'", "semi-definite"]),
    (
        "zero variance with a covariance",
        {**VARIANCES, "Subject": [[0.0, 1.0], [1.0, 1.0]]},
        ["'Subject'", "semi-definite"],
    ),
    ("negative", {**VARIANCES, "Subject": -1.0}, ["'Subject'", "semi-definite"]),
    ("undefined", {**VARIANCES, "Subject": NAN}, ["'Subject'"]),
    ("infinite", {**VARIANCES, "Subject": INF}, ["'Subject'"]),
    ("no residual variance", {**VARIANCES, "residual": 0.0}, ["residual", "positive"]),
    ("negative residual variance", {**VARIANCES, "residual": -1.0}, ["residual"]),
    ("infinite residual variance", {**VARIANCES, "residual": INF}, ["residual"]),
]


@pytest.mark.parametrize(("variances", "words"), [pytest.param(*c[1:], id=c[0]) for c in VARIANCE_CASES])
def test_known_variances_that_do_not_fit(variances: Any, words: list[str]) -> None:
    refused(mg.ArgumentError, words, lambda: mg.MixedModel(FORMULA, mg.data.sleepstudy()).solve(variances))


def test_known_variances_obey_the_structure() -> None:
    model = mg.MixedModel("Reaction ~ Days + diag(Days|Subject)", mg.data.sleepstudy())
    matrix = {"Subject": [[2.0, 1.0], [1.0, 2.0]], "residual": 1.0}
    refused(mg.ArgumentError, ["'Subject'", "diag()"], lambda: model.solve(matrix))


# Asked of a fitted model


@pytest.fixture(scope="module")
def fit() -> mg.Fit:
    return mg.lmm(FORMULA, mg.data.sleepstudy())


def test_covariate_too_far_from_zero() -> None:
    """The year and day as a number: the intercept's variance would be that of the year nought."""
    frame = mg.data.sleepstudy().assign(date=lambda d: 20240101 + d["Days"])
    words = ["'date'", "'Subject'", "Centre it"]
    refused(mg.DesignError, words, lambda: mg.lmm("Reaction ~ Days + (date|Subject)", frame))
    near = frame.assign(date=frame["Days"] + 2000)
    assert mg.lmm("Reaction ~ date + (date|Subject)", near).converged


def test_unknown_term(fit: mg.Fit) -> None:
    refused(mg.ArgumentError, ["'subject'", "'Subject'"], lambda: fit.blup("subject"))


@pytest.mark.parametrize("name", ["deviance"])
def test_what_a_fit_has_not_is_absent(fit: mg.Fit, name: str) -> None:
    refused(mg.NotAvailableError, [], lambda: getattr(fit, name))


def test_criterion_of_the_other_method() -> None:
    fit = mg.lmm(INTERCEPT, mg.data.sleepstudy(), method="ml")
    refused(mg.NotAvailableError, ["ML", "`deviance`", "method='reml'"], lambda: fit.reml_criterion)


@pytest.mark.parametrize("name", ["scale", "relative_factor"])
def test_one_residual_variance_where_there_are_two(name: str) -> None:
    frame = sleep(half=mg.data.sleepstudy()["Days"] < 5)
    fit = mg.lmm(INTERCEPT, frame, residual="diag(half)")
    refused(mg.NotAvailableError, ["one residual variance"], lambda: getattr(fit, name))


def test_contrast_of_another_length(fit: mg.Fit) -> None:
    refused(mg.ArgumentError, ["3 columns", "2"], lambda: fit.estimable([1.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("expression", "word"),
    [
        ("", "Subject[1,1]"),
        ("h2 = ", "Subject[1,1]"),
        ("Subject[1,1] / (residual", "Subject[1,1]"),
        ("a = residual = 2", "residual"),
        ("residual + herd", "'herd'"),
        ("Subject", "'Subject'"),
        ("max(residual, 1)", "max"),
        ("residual + 'a'", "'a'"),
        ("__import__('os')", "__import__"),
        ("residual / 0", "residual / 0"),
        ("log(residual - residual)", "log"),
        ("sqrt(0 - residual)", "sqrt"),
    ],
)
def test_functions_of_variances_that_mean_nothing(fit: mg.Fit, expression: str, word: str) -> None:
    refused(mg.ArgumentError, [word], lambda: fit.vfun(expression))


# Accepted, untouched


@pytest.mark.parametrize("formula", [FORMULA, INTERCEPT, "Reaction ~ C(Days) + (1|Subject)"])
def test_input_is_not_touched(formula: str) -> None:
    frame = mg.data.sleepstudy()
    frame.loc[5, "Reaction"] = np.nan
    frame.index = pd.Index([f"r{k}" for k in range(len(frame))])
    before = frame.copy()
    weights = np.linspace(1.0, 2.0, len(frame))
    kept = weights.copy()
    fit = mg.lmm(formula, frame, weights=weights, subset="Days > 0", na_action="exclude")
    fit.summary()
    pd.testing.assert_frame_equal(frame, before)
    np.testing.assert_array_equal(weights, kept)


def test_relationship_and_variances_are_not_touched() -> None:
    frame = calves()
    variances = {"calf:A": np.array([[20.0]]), "residual": 40.0}
    K = additive().multiply(np.eye(8))
    before = K.copy()
    mg.MixedModel(CALVES, frame, relationships={"A": mg.Relationship.from_matrix(K, range(1, 9))}).solve(variances)
    np.testing.assert_array_equal(K, before)
    assert variances == {"calf:A": np.array([[20.0]]), "residual": 40.0}
    pd.testing.assert_frame_equal(frame, calves())


def test_read_only_arrays_are_accepted() -> None:
    weights, K = np.ones(5), additive().multiply(np.eye(8))
    for array in (weights, K):
        array.setflags(write=False)
    relationships = {"A": mg.Relationship.from_matrix(K, range(1, 9))}
    fit = mg.MixedModel(CALVES, calves(), relationships=relationships, weights=weights).solve(
        {"calf:A": 20.0, "residual": 40.0}
    )
    assert np.isfinite(fit.llf)
