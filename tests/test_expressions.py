"""Formulas are data: what stands in one is computed with, and never run."""

from __future__ import annotations

import builtins
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.formula.functions import COUNTERPARTS, NUMPY

SECONDS = 1.0  # of CPU that no text may take before it is refused


def sleep() -> pd.DataFrame:
    """The shipped data, with a covariate above zero and a factor."""
    data = mg.data.sleepstudy()
    return data.assign(x=data["Days"] + 1.0, f=np.where(data["Days"] % 2 == 0, "even", "odd"), w=1.0)


def llf(formula: str, **more: Any) -> float:
    """Log-likelihood of a model of `sleep`."""
    return mg.lmm(formula, sleep(), method="ml", **more).llf


ACTIONS = (
    "__import__('os').system('touch {path}')",
    "open('{path}', 'w')",
    "exec('open(chr(47))')",
    "eval('1')",
    "x.to_csv('{path}')",
    "x.values.tofile('{path}')",
    "np.save('{path}', x)",
    "np.frompyfunc(print, 1, 1)(x)",
    "np.lib.npyio.os.system('touch {path}')",
    "np.sqrt.__class__.__mro__[1].__subclasses__()",
    "().__class__.__bases__[0].__subclasses__()",
    "(lambda: open('{path}', 'w'))()",
    "(lambda a: a)(x)",
    "[open('{path}', 'w') for _ in [1]]",
    "sum(v for v in x)",
    "{{v: v for v in x}}",
    "f'{{open(chr(120))}}'",
    "x[0]",
    "x[x > 1]",
    "x.pipe(print)",
    "(y := x)",
    "log(*[x])",
    "log(**{{'x': x}})",
    "np.sqrt(x, x)",
    "np.add(x, 1, out=x)",
    "hashed(x, 5, hash_func=open)",
    "C(x, contr.custom(open('{path}', 'w')))",
    "C(f, Treatment('\" + open(chr(47)) + \"'))",
    "C(f, '\\\\\" + str(open) + \"')",
    "poly(x, 2, _state=x)",
    "Q(open('{path}', 'w'))",
    "`open`('{path}', 'w')",
    "`lambda` v: v",
    "getattr(x, 'to_csv')('{path}')",
    "globals()",
    "breakpoint()",
    "print(x)",
    "ｏｐｅｎ('{path}', 'w')",
    "ｅｖａｌ('1')",
    "х(x)",
    "x\0",
    "x if x else x",
    "x and x",
    "9**9**9**9**9",
    "x * 9**99999",
    "10**400 * x",
    "'a' * 10**10",
    "[0] * 10**10",
    "1 << 10**10",
    "poly(x, 10**9)",
    "bs(x, df=100000000)",
    "cr(x, df=100000000)",
    "leg(x, 100000000)",
    "x @ x",
    "await x",
    "yield x",
    "x!r",
    "...",
    "1j * x",
    "b'a'",
    "\\",
    "'",
    "#",
    "x;x",
    "x\n+",
)
SHELLS = (
    "{}",
    "I({})",
    "{{{}}}",
    "log({})",
    "x + {}",
    "I(x + {})",
    "C({})",
    "np.log({})",
    "-({})",
    "poly({}, 2)",
    "x:{}",
)
PLACES: dict[str, Callable[[str], Any]] = {
    "fixed": lambda text: mg.MixedModel(f"Reaction ~ {text} + (1|Subject)", sleep()),
    "response": lambda text: mg.MixedModel(f"{text} ~ Days + (1|Subject)", sleep()),
    "trait": lambda text: mg.MixedModel(f"cbind(Reaction, {text}) ~ Days + us(1|Subject)", sleep()),
    "offset": lambda text: mg.MixedModel(f"Reaction ~ Days + offset({text}) + (1|Subject)", sleep()),
    "slope": lambda text: mg.MixedModel(f"Reaction ~ Days + (0 + {text}|Subject)", sleep()),
    "group": lambda text: mg.MixedModel(f"Reaction ~ Days + (1|{text})", sleep()),
    "weights": lambda text: mg.MixedModel("Reaction ~ Days + (1|Subject)", sleep(), weights=text),
    "residual": lambda text: mg.MixedModel("Reaction ~ Days + (1|Subject)", sleep(), residual=f"diag({text})"),
    "subset": lambda text: mg.MixedModel("Reaction ~ Days + (1|Subject)", sleep(), subset=text),
    "condition": lambda text: mg.MixedModel("Reaction ~ Days + (1|Subject)", sleep(), subset=f"{text} > 1"),
    "whole": lambda text: mg.MixedModel(text, sleep()),
}


def hostile(rng: np.random.Generator, path: Path) -> str:
    """A text that wants to be run, to take for ever, or to be misread."""
    kind = rng.integers(10)
    if kind == 0:
        depth = int(rng.choice([30, 100, 3_000]))
        return "(" * depth + "x" + ")" * depth
    if kind == 1:
        return str(rng.choice(["-", "~", "not ", "x**", "x+", "x-", "log(", "I("])) * int(rng.choice([50, 5_000])) + "x"
    if kind == 2:
        return f"({'+'.join(['x', 'Days', 'f', 'w'][: rng.integers(2, 5)])})**{10 ** int(rng.integers(1, 30))}"
    action = str(rng.choice(ACTIONS)).format(path=path)
    for _ in range(rng.integers(0, 3)):
        action = str(rng.choice(SHELLS)).format(action)
    return action


def test_hostile_texts_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(20261201)
    data, path = sleep(), tmp_path / "made"
    monkeypatch.setitem(PLACES, "vfun", mg.lmm("Reaction ~ Days + (1|Subject)", data).vfun)
    ran: list[str] = []
    for name in ("exec", "print", "input", "breakpoint", "globals"):
        monkeypatch.setattr(builtins, name, lambda *_, name=name, **__: ran.append(name))
    monkeypatch.setattr(os, "system", lambda command: ran.append(command))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: ran.append("Popen"))
    for _ in range(500):
        place = str(rng.choice(list(PLACES)))
        text = hostile(rng, path)
        begin = time.process_time()
        try:
            PLACES[place](text)
        except mg.MixedgenError:
            pass
        except Exception as error:  # the message says which text it was
            raise AssertionError(f"{place}: {text[:200]!r} raises {type(error).__name__}: {error}") from error
        seconds = time.process_time() - begin
        assert seconds < SECONDS, f"{place}: {text[:200]!r} takes {seconds:.1f} s"
        assert not ran and not path.exists(), f"{place}: {text[:200]!r} was run"


@pytest.mark.parametrize("place", ["fixed", "response", "offset", "slope", "subset", "condition"])
@pytest.mark.parametrize(
    "action", ["I(__import__('pathlib').Path({!r}).touch()(x))", "x.to_csv({!r})", "open({!r}, 'w')"]
)
def test_no_file_is_made(place: str, action: str, tmp_path: Path) -> None:
    path = tmp_path / "made"
    with pytest.raises(mg.MixedgenError):
        PLACES[place](action.format(str(path)))
    assert not path.exists()


@pytest.mark.parametrize(
    ("ours", "same"),
    [
        ("sqrt(x)", "np.sqrt(x)"),
        ("log1p(x)", "np.log1p(x)"),
        ("abs(x - 3)", "np.abs(x - 3)"),
        ("factor(Days)", "C(Days)"),
        ("as.factor(Days)", "C(Days)"),
        ("I(x^2)", "I(x**2)"),
        ("I(x^2 + 1)", "I(x**2)"),
        ("x + {x^2}", "x + I(x**2)"),
        ("poly(x, 2, raw=TRUE)", "poly(x, 2)"),
        ("ifelse(x > 3, 1, 0)", "np.where(x > 3, 1, 0)"),
        ("pmin(x, 3)", "np.minimum(x, 3)"),
        ("ceiling(x / 3)", "np.ceil(x / 3)"),
        ("exp10(x / 9)", "I(10**(x / 9))"),
        ("x %in% f", "x:f"),
        ("(x + f)**20", "(x + f)**2"),
        ("(x + f)^999999999999", "x*f"),
    ],
)
def test_words_of_r(ours: str, same: str) -> None:
    assert np.isclose(llf(f"Reaction ~ {ours} + (1|Subject)"), llf(f"Reaction ~ {same} + (1|Subject)"), rtol=1e-10)


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_words_without_an_equal_name_what_to_write(name: str) -> None:
    with pytest.raises(mg.FormulaError) as caught:
        mg.lmm(f"Reaction ~ {name}(x, 3) + (1|Subject)", sleep())
    assert COUNTERPARTS[name] in str(caught.value)


@pytest.mark.parametrize("power", ["0", "-1", "1.5", "x", "(x + f)"])
def test_powers_that_mean_nothing(power: str) -> None:
    with pytest.raises(mg.FormulaError):
        mg.lmm(f"Reaction ~ (x + f)**{power} + (1|Subject)", sleep())


@pytest.mark.parametrize("sign", ["*", ":", "**"])
def test_too_many_terms(sign: str) -> None:
    names = [f"v{i}" for i in range(40)]
    data = sleep().assign(**dict.fromkeys(names, 1.0))
    text = f"({' + '.join(names)})**20" if sign == "**" else sign.join(f"({' + '.join(names)})" for _ in range(4))
    begin = time.process_time()
    with pytest.raises(mg.FormulaError, match="products of terms"):
        mg.lmm(f"Reaction ~ {text} + (1|Subject)", data)
    assert time.process_time() - begin < SECONDS


@pytest.mark.parametrize(
    "text",
    ["(1|{})".format("*".join(f"v{i}" for i in range(40))), "(1|{})".format("/".join(f"v{i}" for i in range(400)))],
)
def test_too_many_groups(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(mg.MixedgenError):
        mg.MixedModel(f"Reaction ~ Days + {text}", sleep())
    assert time.process_time() - begin < SECONDS


def test_too_many_nested() -> None:
    begin = time.process_time()
    with pytest.raises(mg.FormulaError, match="'/'"):
        mg.MixedModel(f"Reaction ~ {'/'.join(f'v{i}' for i in range(500))} + (1|Subject)", sleep())
    assert time.process_time() - begin < SECONDS


@pytest.mark.parametrize("name", ["sqrt", "arctan", "hypot", "where", "round", "clip", "logaddexp"])
def test_numpy_by_either_name(name: str) -> None:
    arguments = "x > 3, x, 2" if name == "where" else ", ".join(["x", "2", "5"][: NUMPY[name]])
    one, other = (llf(f"Reaction ~ {n}({arguments}) + (1|Subject)") for n in (name, f"np.{name}"))
    assert one == other


def twice(x: Any) -> Any:
    """A function of the user's."""
    return 2.0 * x


def test_functions_of_the_user() -> None:
    """They are used in every part of a formula, kept by update, and used again for new data."""
    terms = "twice(x) + offset(twice(w)) + (twice(x)|Subject)"
    fit = mg.lmm(f"twice(Reaction) ~ {terms}", sleep(), functions={"twice": twice})
    plain = mg.lmm("I(2*Reaction) ~ I(2*x) + offset(2*w) + (I(2*x)|Subject)", sleep())
    assert np.isclose(fit.llf, plain.llf, rtol=1e-9)
    assert np.allclose(fit.predict(sleep().head(7)), plain.predict(sleep().head(7)), rtol=1e-6)
    assert "twice(x)" in fit.update(". ~ . - offset(twice(w))").params.index


@pytest.mark.parametrize(
    ("functions", "word"),
    [({"log": twice}, "log"), ({"f g": twice}, "f g"), ({"t": 3}, "int"), ([twice], "list"), ({"a__b": twice}, "a__b")],
)
def test_functions_that_cannot_be(functions: Any, word: str) -> None:
    with pytest.raises(mg.ArgumentError, match=word):
        llf("Reaction ~ x + (1|Subject)", functions=functions)


def test_a_function_that_fails_is_a_data_error() -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(mg.DataError):
        llf("Reaction ~ g(x) + (1|Subject)", functions={"g": broken})


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(mg.FormulaError, match=r"functions=\{'myown': myown\}"):
        llf("Reaction ~ myown(x) + (1|Subject)")
    with pytest.raises(mg.FormulaError, match="make the column before"):
        llf("Reaction ~ x.clip(3) + (1|Subject)")


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("Days > 2", lambda d: d["Days"] > 2),
        ("Days > 2 & f == 'even'", lambda d: (d["Days"] > 2) & (d["f"] == "even")),
        ("Days > 2 and not f == 'even'", lambda d: (d["Days"] > 2) & (d["f"] != "even")),
        ("Days < 2 | Days >= 8", lambda d: (d["Days"] < 2) | (d["Days"] >= 8)),
        ("Days < 2 || Days >= 8", lambda d: (d["Days"] < 2) | (d["Days"] >= 8)),
        ("!(Days < 2) && f != 'odd'", lambda d: (d["Days"] >= 2) & (d["f"] == "even")),
        ("~(Days < 2)", lambda d: d["Days"] >= 2),
        ("2 < Days <= 6", lambda d: (d["Days"] > 2) & (d["Days"] <= 6)),
        ("Days in [1, 2, 3, 5]", lambda d: d["Days"].isin([1, 2, 3, 5])),
        ("Days not in (1, 2)", lambda d: ~d["Days"].isin([1, 2])),
        ("Days %in% c(1, 2, 3)", lambda d: d["Days"].isin([1, 2, 3])),
        ("Days == [1, 2, 3]", lambda d: d["Days"].isin([1, 2, 3])),
        ("sqrt(Days) + 1 > 2", lambda d: d["Days"] > 1),
        ("np.log(x) < 1", lambda d: d["Days"] < 2),
        ("Days^2 > 9", lambda d: d["Days"] > 3),
        ("small * 100 > 450", lambda d: d["Days"] > 4),
        ("-small < -4", lambda d: d["Days"] > 4),
        ("`two words` > 2", lambda d: d["Days"] > 2),
        ("dot.ted > 2", lambda d: d["Days"] > 2),
        ("truth", lambda d: d["Days"] > 3),
        ("!truth", lambda d: d["Days"] <= 3),
        ("nullable", lambda d: d["Days"] > 3),
        ("gaps > 3", lambda d: d["Days"] > 3),
        ("notna(gaps) & Days < 5", lambda d: (d["Days"] > 1) & (d["Days"] < 5)),
        ("!is.na(gaps)", lambda d: d["Days"] > 1),
        ("when >= '2026-01-05'", lambda d: d["Days"] > 3),
        ("level == 'odd'", lambda d: d["f"] == "odd"),
        ('text == "it\'s"', lambda d: d["Days"] == 3),
        ("mine(Days) > 4", lambda d: d["Days"] > 2),
        ("exact == 9007199254740993 | Days > 5", lambda d: (d["Days"] == 3) | (d["Days"] > 5)),
    ],
)
def test_conditions(condition: str, rows: Callable[[pd.DataFrame], pd.Series]) -> None:
    days = mg.data.sleepstudy()["Days"]
    data = sleep().assign(
        **{"two words": days, "dot.ted": days},
        small=days.astype("uint8"),
        truth=days > 3,
        nullable=(days > 3).astype("boolean").where(days > 0, pd.NA),
        gaps=days.where(days > 1),
        when=pd.Timestamp("2026-01-01") + pd.to_timedelta(days, unit="D"),
        level=sleep()["f"].astype("category"),
        text=np.where(days == 3, "it's", "no"),
        exact=2**53 + np.where(days == 3, 1, 0),
    )
    fit = mg.MixedModel("Reaction ~ 1 + (1|Subject)", data, subset=condition, functions={"mine": twice})
    assert fit.design.kept.tolist() == np.flatnonzero(rows(data)).tolist()


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("Days.isin([1])", "in ['a', 'b']"),
        ("@Days > 1", "valid"),
        ("Days", "true or false"),
        ("1 < 2", "true or false"),
        ("f > 1 + f", "no number"),
        ("level < 'odd'", "evaluated"),
        ("open('x') > 1", "known function"),
        ("Dais > 1", "'Dais'"),
        ("Days > (lambda: 1)()", "evaluated"),
    ],
)
def test_conditions_that_are_none(condition: str, words: str) -> None:
    with pytest.raises(mg.ArgumentError) as caught:
        data = sleep().assign(level=sleep()["f"].astype("category"))
        mg.MixedModel("Reaction ~ 1 + (1|Subject)", data, subset=condition)
    assert words in str(caught.value) and condition in str(caught.value)
