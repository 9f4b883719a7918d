"""What a column is: every type, at every place of a formula, is the model of the plain column."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg


def plain_records() -> pd.DataFrame:
    """80 records of 8 groups: whole numbers, positive, whose square a byte cannot hold, text, booleans."""
    rng = np.random.default_rng(101)
    group = np.repeat(np.arange(8), 10)
    d = pd.DataFrame({"g": np.array([f"g{k}" for k in group], dtype=object), "x": rng.normal(size=80)})
    d["count"] = rng.integers(1, 15, 80) * 8.0
    d["arm"] = np.array(rng.choice(["10", "9", "x"], 80), dtype=object)
    d["flag"] = rng.random(80) < 0.5
    d["y"] = 0.05 * d["count"] + (d["arm"] == "9") + d["flag"] + rng.normal(size=8)[group] + rng.normal(size=80)
    return d


Typed = Callable[[pd.Series], Any]

NUMBERS: dict[str, Typed] = {
    **{
        t: (lambda c, t=t: c.astype(t))
        for t in ("uint8", "int8", "int16", "uint16", "int64", "float32", "Int8", "UInt8")
    },
    "Int64": lambda c: c.astype("Int64"),
    "Float64": lambda c: c.astype("Float64"),
    "arrow int": lambda c: c.astype("int64").astype("uint8[pyarrow]"),
    "arrow double": lambda c: c.astype("double[pyarrow]"),
    "objects": lambda c: c.astype(object),
    "whole objects": lambda c: pd.Series([int(v) for v in c], dtype=object),
    "Decimal": lambda c: pd.Series([Decimal(int(v)) for v in c], dtype=object),
    "mixed numbers": lambda c: pd.Series([Fraction(int(v)) if v > 50 else int(v) for v in c], dtype=object),
    "date": lambda c: pd.Series([dt.date(1970, 1, 1) + dt.timedelta(days=int(v)) for v in c], dtype=object),
    "datetime": lambda c: pd.Timestamp("1970-01-01") + pd.to_timedelta(c, unit="D"),
    "zoned datetime": lambda c: (pd.Timestamp("1970-01-01") + pd.to_timedelta(c, unit="D")).dt.tz_localize("UTC"),
    "duration": lambda c: pd.to_timedelta(c, unit="D"),
    "duration objects": lambda c: pd.Series([dt.timedelta(days=int(v)) for v in c], dtype=object),
}

TEXTS: dict[str, Typed] = {
    "str": lambda c: c.astype("str"),
    "string": lambda c: c.astype("string[python]"),
    "string pyarrow": lambda c: c.astype("string[pyarrow]"),
    "arrow string": lambda c: (
        c.astype("string[python]").astype("str").astype(pd.ArrowDtype(pytest.importorskip("pyarrow").string()))
    ),
    "category": lambda c: c.astype("category"),
}

LOGICALS: dict[str, Typed] = {
    "bool": lambda c: c,
    "boolean": lambda c: c.astype("boolean"),
    "bool objects": lambda c: c.astype(object),
    "arrow bool": lambda c: c.astype("bool[pyarrow]"),
    "numpy objects": lambda c: pd.Series([np.bool_(v) for v in c], dtype=object),
}

NUMBER_PLACES = {
    "fixed": "y ~ count + (1|g)",
    "product": "y ~ count:x + count:arm + (1|g)",
    "power": "y ~ I(count**2) + (1|g)",
    "call": "y ~ poly(count, 2) + np.log(count) + (1|g)",
    "slope": "y ~ count + (count||g)",
    "response": "count ~ x + (1|g)",
    "computed response": "{count * count} ~ x + (1|g)",
    "offset": "y ~ x + offset(count) + (1|g)",
    "computed offset": "y ~ x + offset(count * count) + (1|g)",
    "residual": "y ~ x + (1|g)",
    "weights": "y ~ x + (1|g)",
}
LEVEL_PLACES = {
    "fixed": "y ~ arm + x + (1|g)",
    "product": "y ~ x:arm + (1|g)",
    "coded": "y ~ C(arm) + (1|g)",
    "effects": "y ~ x + (0 + arm||g)",
    "group": "y ~ x + (1|arm)",
    "interaction": "y ~ x + (1|g:arm)",
    "residual": "y ~ x + (1|g)",
}


def options_of(place: str, column: str, number: bool) -> dict[str, Any]:
    """Options of a model in which the column stands at a place that is not its formula."""
    if place == "residual":
        return {"residual": f"exp({column})" if number else f"diag({column})"}
    return {"weights": column} if place == "weights" else {}


@pytest.mark.parametrize("place", NUMBER_PLACES)
def test_numbers_of_any_type_are_floats(place: str) -> None:
    d = plain_records()
    options = options_of(place, "count", number=True)
    right = mg.lmm(NUMBER_PLACES[place], d, **options)
    predicted = right.predict(d.head(7))
    for name, typed in NUMBERS.items():
        other = d.assign(count=typed(d["count"]))
        fit = mg.lmm(NUMBER_PLACES[place], other, **options)
        assert list(fit.params.index) == list(right.params.index), name
        np.testing.assert_allclose(fit.llf, right.llf, rtol=1e-8, err_msg=name)
        np.testing.assert_allclose(fit.predict(other.head(7)), predicted, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(right.predict(other.head(7)), predicted, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("place", LEVEL_PLACES)
def test_text_of_any_type_is_a_factor(place: str) -> None:
    d = plain_records()
    options = options_of(place, "arm", number=False)
    right = mg.lmm(LEVEL_PLACES[place], d, **options)
    predicted = right.predict(d.head(7))
    for name, typed in TEXTS.items():
        other = d.assign(arm=typed(d["arm"]))
        fit = mg.lmm(LEVEL_PLACES[place], other, **options)
        assert list(fit.params.index) == list(right.params.index), name
        assert list(fit.theta.index) == list(right.theta.index), name
        np.testing.assert_allclose(fit.llf, right.llf, rtol=1e-8, err_msg=name)
        np.testing.assert_allclose(fit.predict(other.head(7)), predicted, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(right.predict(other.head(7)), predicted, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("place", LEVEL_PLACES)
def test_booleans_of_any_type_are_the_levels_false_and_true(place: str) -> None:
    formula = LEVEL_PLACES[place].replace("arm", "flag")
    d = plain_records()
    options = options_of(place, "flag", number=False)
    right = mg.lmm(formula, d.assign(flag=np.where(d["flag"], "True", "False")), **options)
    for name, typed in LOGICALS.items():
        other = d.assign(flag=typed(d["flag"]))
        fit = mg.lmm(formula, other, **options)
        assert list(fit.params.index) == list(right.params.index), name
        np.testing.assert_allclose(fit.llf, right.llf, rtol=1e-8, err_msg=name)
        np.testing.assert_allclose(fit.predict(other.head(7)), fit.fittedvalues.head(7), rtol=1e-8, err_msg=name)


def test_nulls_leave_a_column_what_it_is() -> None:
    d = plain_records()
    right = mg.lmm("y ~ count + arm + flag + (1|g)", d.iloc[1:])
    for columns in (
        {"flag": d["flag"].astype(object).where(d.index > 0, None)},
        {"flag": d["flag"].astype("boolean").where(d.index > 0)},
        {"arm": d["arm"].astype("string[python]").where(d.index > 0)},
        {"arm": d["arm"].where(d.index > 0, None)},
        {"count": d["count"].astype("Int16").where(d.index > 0)},
        {"count": pd.Series([None, *(Decimal(int(v)) for v in d["count"][1:])], dtype=object)},
        {"count": (pd.Timestamp("1970-01-01") + pd.to_timedelta(d["count"], unit="D")).where(d.index > 0)},
    ):
        fit = mg.lmm("y ~ count + arm + flag + (1|g)", d.assign(**columns))
        assert list(fit.params.index) == list(right.params.index)
        np.testing.assert_allclose(fit.llf, right.llf, rtol=1e-8)


def test_a_comparison_is_a_factor_and_arithmetic_of_booleans_counts() -> None:
    d = plain_records()
    over = d.assign(over=np.where(d["x"] > 0, "True", "False"))
    right = mg.lmm("y ~ 0 + over + (1|g)", over)
    np.testing.assert_allclose(mg.lmm("y ~ 0 + I(x > 0) + (1|g)", d).params, right.params, rtol=1e-7)
    both = mg.lmm("y ~ I(flag + flag) + (1|g)", d)
    twice = mg.lmm("y ~ two + (1|g)", d.assign(two=2.0 * d["flag"]))
    np.testing.assert_allclose(both.params, twice.params, rtol=1e-7)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1, 2, "a"] * 4, ["mixes text", "'a'", "1"]),
        ([1.5, "b", 2] * 4, ["mixes text", "'b'", "1.5"]),
        ([1j, 2.0, 3.0] * 4, ["complex", "1j"]),
        ([[1], [2], [3]] * 4, ["list", "[1]"]),
        ([True, 1.5, 2] * 4, ["bool", "True"]),
        ([b"a", b"b", b"c"] * 4, ["bytes", "b'a'"]),
        ([dt.time(1), dt.time(2), dt.time(3)] * 4, ["time", "01:00"]),
    ],
)
@pytest.mark.parametrize(
    "formula", ["y ~ z + (1|g)", "y ~ (1|z)", "y ~ I(z) + (1|g)", "z ~ (1|g)", "y ~ offset(z) + (1|g)", "y ~ (0 + z|g)"]
)
def test_what_is_neither_levels_nor_numbers_is_named(values: list[Any], words: list[str], formula: str) -> None:
    d = pd.DataFrame({"g": list("aabbccddeeff"), "y": np.random.default_rng(1).normal(size=12)})
    with pytest.raises(mg.DataError) as caught:
        mg.lmm(formula, d.assign(z=pd.Series(values, dtype=object)))
    assert all(word in str(caught.value) for word in ["'z'", *words]), caught.value


@pytest.mark.parametrize("size", [1e200, 1e-200])
@pytest.mark.parametrize(
    "formula", ["y ~ x:z + (1|g)", "y ~ (0 + x:z|g)", "y ~ I(x * z) + (1|g)", "y ~ I(x**2) + (1|g)"]
)
def test_a_product_out_of_range_is_refused(size: float, formula: str) -> None:
    d = plain_records()
    with pytest.raises(mg.DataError):
        mg.lmm(formula, d.assign(x=d["count"] * size, z=d["count"] * size))


@pytest.mark.parametrize(
    "name",
    [
        "1",
        "0",
        "Intercept",
        "(Intercept)",
        "my col",
        "arm:x",
        "log(x)",
        "x + 1",
        "é",
        "x.1",
        "2.5",
        "poly",
        "C",
        "arm[T.9]",
    ],
)
def test_a_column_may_be_called_anything(name: str) -> None:
    d = plain_records()
    named = d.assign(**{name: d["count"]})
    for formula in ("y ~ {} + arm*x + (1|g)", "y ~ arm:{} + (1|g)", "y ~ {} + ({}||g)", "y ~ I({} * 2) + (1|g)"):
        right = mg.lmm(formula.format("count", "count"), d)
        fit = mg.lmm(formula.format(f"`{name}`", f"`{name}`"), named)
        assert len(set(fit.params.index)) == len(right.params)
        np.testing.assert_allclose(fit.params, right.params, rtol=1e-6)
        np.testing.assert_allclose(fit.llf, right.llf, rtol=1e-8)
        np.testing.assert_allclose(fit.predict(named.head(5)), right.predict(d.head(5)), rtol=1e-6)


def test_labels_that_are_no_text() -> None:
    d = plain_records()
    fit = mg.lmm("y ~ `0` + (1|`7`)", d.rename(columns={"count": 0, "g": 7}))
    np.testing.assert_allclose(fit.params, mg.lmm("y ~ count + (1|g)", d).params)
    with pytest.raises(mg.DataError, match="twice"):
        mg.lmm("y ~ `0` + (1|g)", d.assign(**{"0": 1.0}).rename(columns={"count": 0}))


def test_joined_levels_differ() -> None:
    rng = np.random.default_rng(32)
    d = pd.DataFrame({"a": rng.choice(["p", "p:q", "`p", "r"], 160), "b": rng.choice(["q:s", "s", "q:`s", "t"], 160)})
    d["c"] = rng.choice(["u", "s:u"], 160)
    d["y"] = d.groupby(["a", "b"]).ngroup() + rng.normal(size=160)
    for formula in ("y ~ 1 + (1|a:b)", "y ~ 1 + (1|a:b:c)"):
        fit = mg.lmm(formula, d)
        assert fit.fitted.design.terms[0].levels.is_unique
        np.testing.assert_allclose(fit.predict(d.head(20)), fit.fittedvalues.head(20))


def test_whole_numbers_that_became_floats_name_the_same_levels() -> None:
    d = plain_records().assign(k=np.tile([1, 2, 3, 4], 20))
    fit = mg.lmm("y ~ 1 + (1|g:k)", d)
    np.testing.assert_allclose(fit.predict(d.head(9).astype({"k": float})), fit.fittedvalues.head(9))


def test_in_is_the_interaction() -> None:
    d = plain_records()
    np.testing.assert_allclose(mg.lmm("y ~ x %in% arm + (1|g)", d).params, mg.lmm("y ~ x:arm + (1|g)", d).params)


def test_a_word_of_python_is_a_column_outside_expressions() -> None:
    d = plain_records().rename(columns={"count": "lambda"})
    assert mg.lmm("y ~ `lambda`:arm + (1|g)", d).converged
    with pytest.raises(mg.FormulaError, match="rename"):
        mg.lmm("y ~ I(`lambda` * 2) + (1|g)", d)


class Stream:
    """Nothing but Arrow's stream interface."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


def libraries(d: pd.DataFrame) -> dict[str, Any]:
    """The same records, with types that each library has of its own, in several libraries of frames."""
    pa, pl = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    table = pa.Table.from_pandas(d, preserve_index=False).replace_schema_metadata(None)
    days, tall = pa.array([int(v) for v in d["count"]], pa.int32()), pl.from_pandas(d)
    typed = table.set_column(table.schema.get_field_index("count"), "count", days.cast(pa.date32()))
    coded = typed.set_column(table.schema.get_field_index("arm"), "arm", table["arm"].dictionary_encode())
    whole = table.set_column(table.schema.get_field_index("count"), "count", days.cast(pa.uint8()))
    exact = table.set_column(table.schema.get_field_index("count"), "count", days.cast(pa.decimal128(12, 2)))
    enum = tall.with_columns(pl.col("arm").cast(pl.Enum(["10", "9", "x"])), pl.col("count").cast(pl.Int8))
    return {
        "arrow": table,
        "arrow of dates and dictionaries": coded,
        "arrow of bytes": whole,
        "arrow of decimals": exact,
        "arrow batch": table.to_batches()[0],
        "stream": Stream(table),
        "polars": tall,
        "polars lazy": tall.lazy(),
        "polars categorical": tall.with_columns(pl.col("arm").cast(pl.Categorical), pl.col("count").cast(pl.UInt8)),
        "polars enum": enum,
        "polars duration": tall.with_columns(pl.duration(days=pl.col("count")).alias("count")),
        "polars stream": Stream(tall),
        "arrow types": table.to_pandas(types_mapper=pd.ArrowDtype),
        "arrow dictionaries": coded.to_pandas(types_mapper=pd.ArrowDtype),
        "nullable": d.convert_dtypes(),
        "mapping": {name: list(d[name]) for name in d},
    }


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ count + arm + flag + (1|g)",
        "y ~ count:x + flag:x + I(count**2) + (0 + arm||g)",
        "y ~ C(arm) + offset(count) + (1|g:arm) + (1|flag)",
        "{count + x} ~ flag*x + (count||g)",
    ],
)
def test_every_library_of_frames_gives_the_same_model(formula: str) -> None:
    d = plain_records()
    right = mg.MixedModel(formula, d)
    known = dict.fromkeys(right.design.theta_names, 1.0)
    theirs = right.solve(known)
    predicted = theirs.predict(d)
    for name, data in libraries(d).items():
        ours = mg.MixedModel(formula, data).solve(known)
        assert list(ours.params.index) == list(theirs.params.index), name
        np.testing.assert_allclose(ours.params, theirs.params, rtol=1e-7, atol=1e-8, err_msg=name)
        np.testing.assert_allclose(ours.predict(data), predicted, rtol=1e-7, atol=1e-8, err_msg=name)
        np.testing.assert_allclose(theirs.predict(data), predicted, rtol=1e-7, atol=1e-8, err_msg=name)


def test_whole_numbers_beside_nulls_stay_exact() -> None:
    pa = pytest.importorskip("pyarrow")
    ids = [2**60 + k // 4 for k in range(40)]
    y = np.random.default_rng(3).normal(size=40)
    table = pa.table({"id": pa.array([*ids[:-1], None], pa.int64()), "y": y})
    assert len(mg.lmm("y ~ 1 + (1|id)", table).blup("id")) == 10


def test_a_column_alone_is_no_table() -> None:
    pl = pytest.importorskip("polars")
    with pytest.raises(mg.DataError, match="table|frame"):
        mg.lmm("y ~ 1", pl.Series([1.0, 2.0]))
