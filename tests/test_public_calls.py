"""Public calls: whatever they are given, all that goes wrong is a MixedgenError, and its message helps."""

import inspect
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg


@cache
def fit() -> mg.Fit:
    return mg.lmm("Reaction ~ Days + (1|Subject)", mg.data.sleepstudy())


@cache
def pedigree() -> mg.Pedigree:
    return mg.Pedigree(mg.data.mrode_pedigree())


@cache
def genotypes() -> mg.Genotypes:
    return mg.Genotypes(np.array([[0, 1], [2, 1], [1, 0]]), ids=["a", "b", "c"])


WRONG: list[Any] = [
    *(None, True, -1, 0, 10**30, 2.5, np.nan, 1j, "", "~ a", "a b", b"x", object(), int, len, ..., Path("nowhere.csv")),
    *(
        [],
        [1],
        ["a"],
        [[1, 2], [3]],
        {},
        {"a": 1},
        {1: "a"},
        {"a": [1, 2]},
        set(),
        (),
        np.zeros((2, 2, 2)),
        np.array("x"),
    ),
    *(pd.DataFrame(), pd.DataFrame({"a": [1]}), pd.Series(dtype=float), pd.Index([1]), slice(3), lambda x: x),
]

EXEMPT = {"MixedgenError", "report", "save"}  # errors are not called by users


def calls() -> dict[str, Callable[..., Any]]:
    """Public functions, classes and methods by name; methods are bound to small objects."""
    out: dict[str, Callable[..., Any]] = {}
    bound = {"Fit": fit(), "Pedigree": pedigree(), "Genotypes": genotypes(), "Relationship": mg.additive(pedigree())}
    bound["MixedModel"] = mg.MixedModel("Reaction ~ Days + (1|Subject)", mg.data.sleepstudy())
    for name in mg.__all__:
        member = getattr(mg, name)
        if inspect.ismodule(member):
            own = {k: v for k, v in vars(member).items() if inspect.isfunction(v) and not k.startswith("_")}
            out |= {f"{name}.{k}": v for k, v in own.items() if v.__module__.startswith(member.__name__)}
        elif not (inspect.isclass(member) and issubclass(member, Exception | Warning)) and name not in EXEMPT:
            out[name] = member
    for name, instance in bound.items():
        for key, method in inspect.getmembers(type(instance), callable):
            if not key.startswith("_") and not inspect.isclass(method):
                out[f"{name}().{key}"] = getattr(instance, key)
    return {k: v for k, v in out.items() if "names" not in k}


CALLS = calls()
NUMBERS = ("n", "draws", "points")  # a sound one makes the call work for long: only what is no number is tried


@pytest.mark.parametrize("name", CALLS)
def test_no_raw_exception_from_wrong_types(name: str) -> None:
    call = CALLS[name]
    parameters = inspect.signature(call).parameters.values()
    single = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [p.name for p in single if p.default is p.empty]
    resampling = name.split(".")[-1] in ("bootstrap", "power", "influence", "confint", "profile")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in WRONG:
            if not resampling:
                attempt(call, *[value] * len(required))
            for option in [p.name for p in single if p.default is not p.empty]:
                if (option in NUMBERS and isinstance(value, int)) or (
                    resampling and (option not in NUMBERS or value is None)
                ):
                    continue
                attempt(call, *[value] * len(required), **{option: value})
        attempt(call, no_such_option=1)


def attempt(call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Call; only a MixedgenError may come out."""
    try:
        call(*arguments, **options)
    except mg.MixedgenError as error:
        assert str(error)


HELP: list[tuple[Callable[[], Any], str]] = [
    (lambda: fit().contest("Days = 0"), "name the columns"),
    (lambda: mg.emmeans(fit(), "~ Days"), "without '~'"),
    (lambda: mg.emmeans(fit(), "days"), "'Days'"),
    (lambda: fit().vfun("Subject / (Subject + Residual)"), "Did you mean 'residual'"),
    (lambda: fit().blup("subject"), "Did you mean 'Subject'"),
    (lambda: fit().power("Days", coefficients={"days": 1.0}), "'Days'"),
    (lambda: mg.lmm("Reaction ~ days + (1|Subject)", mg.data.sleepstudy()), "Did you mean 'Days'"),
    (lambda: mg.lmm("Reaction ~ Days + (1|Subject)", mg.data.sleepstudy(), REML=False), "method='ml'"),
    (lambda: mg.lmm("Reaction ~ Days", mg.data.sleepstudy(), groups="Subject"), "(1|g)"),
    (lambda: mg.lmm("Reaction ~ Days + (1|Subject)", mg.data.sleepstudy(), familly="gaussian"), "familly"),
    (lambda: mg.lmm("Reaction ~ Days + (1|Subject)", mg.data.sleepstudy(), relationship={}), "relationships"),
    (lambda: fit().VarCorr, "varcomp"),
    (lambda: fit().random_effects, "ranef()"),
    (lambda: fit().logLik(), "llf"),
    (lambda: fit().summry(), "'summary'"),
    (lambda: mg.lmer, "lmm"),
    (lambda: mg.Pedigree.read("nowhere.csv"), "nowhere.csv"),
    (lambda: mg.lmm("y ~ 1 + (1|g)", "nowhere.csv"), "nowhere.csv"),
    (lambda: fit().predict(re_form="subject"), "'Subject'"),
]


@pytest.mark.parametrize("k", range(len(HELP)))
def test_messages_help(k: int) -> None:
    call, words = HELP[k]
    with pytest.raises(mg.MixedgenError) as caught:
        call()
    assert words in str(caught.value), str(caught.value)


def test_tracebacks_are_short() -> None:
    try:
        mg.lmm("Reaction ~ Dayss + (1|Subject)", mg.data.sleepstudy())
    except mg.MixedgenError as error:
        assert len(traceback.extract_tb(error.__traceback__)) <= 3


def test_re_form_none_is_all_random_effects() -> None:
    new = mg.data.sleepstudy().head(3)
    np.testing.assert_allclose(fit().predict(new, re_form=None), fit().fittedvalues.head(3))


def test_absent_names_are_absent_attributes() -> None:
    assert not hasattr(fit(), "VarCorr") and not hasattr(mg, "lmer")


def test_warnings_point_at_the_call_of_the_user() -> None:
    with pytest.warns(mg.ConvergenceWarning) as caught:
        mg.lmm("Reaction ~ Days + (Days|Subject)", mg.data.sleepstudy(), control=mg.Control(max_iter=1))
    assert {w.filename for w in caught} == {__file__}
