"""Engines: ways to solve the mixed-model equations, and the choice between them."""

from __future__ import annotations

from mixedgen.design import Design
from mixedgen.engines.dense import DenseEngine
from mixedgen.engines.henderson import HendersonEngine
from mixedgen.engines.system import Engine, Forecast, Solution, System
from mixedgen.errors import ArgumentError

__all__ = ["ENGINES", "Engine", "Forecast", "Solution", "System", "choose"]

ENGINES: dict[str, type[Engine]] = {"henderson": HendersonEngine, "dense": DenseEngine}


def choose(design: Design, name: str = "auto") -> Engine:
    """Engine of a name, analysed for a design; ``"auto"`` takes Henderson's equations.

    Raises
    ------
    ArgumentError
        If there is no such engine.
    """
    if name == "auto":
        name = "henderson"
    if name not in ENGINES:
        raise ArgumentError(f"there is no engine {name!r}; choose one of: auto, {', '.join(ENGINES)}.")
    return ENGINES[name](design)
