"""Engines: ways to solve the mixed-model equations, and the choice between them."""

from __future__ import annotations

import logging
from pathlib import Path

from mixedgen.design.design import Design
from mixedgen.engines.dense import DenseEngine
from mixedgen.engines.henderson import HendersonEngine
from mixedgen.engines.system import Engine, Forecast, Solution, System
from mixedgen.errors import ArgumentError, EngineError

__all__ = ["ENGINES", "Engine", "Forecast", "Solution", "System", "choose", "name_of"]

logger = logging.getLogger("mixedgen.engines")
WORTH_SAYING = 5_000_000  # elements of the factor from which a step takes seconds

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
    engine = ENGINES[name](design)
    require_memory(engine.forecast())
    return engine


def name_of(engine: Engine) -> str:
    """Name by which an engine can be asked for."""
    return next(name for name, kind in ENGINES.items() if type(engine) is kind)


def require_memory(forecast: Forecast) -> None:
    """Say what an evaluation will cost, and refuse it where the memory is not there.

    Raises
    ------
    EngineError
        With the forecast, and what to do.
    """
    free = free_memory()
    gigabytes = forecast.bytes / 2**30
    if free is not None and forecast.bytes > free:
        raise EngineError(
            f"{forecast.order:,} equations need {gigabytes:.1f} GB and about {forecast.seconds:.0f} s for each step "
            f"(elements of the factor: {forecast.nonzeros:,}; flops: {forecast.flops:.2g}), but {free / 2**30:.1f} GB "
            "are free. Leave out animals without records or descendants with records, take fewer generations or a "
            "sire model, or use a machine with more memory.",
            forecast=forecast,
        )
    if forecast.nonzeros > WORTH_SAYING:
        logger.info(
            "%s equations: about %.0f s for each step of the optimiser and %.1f GB",
            f"{forecast.order:,}",
            forecast.seconds,
            gigabytes,
        )


def free_memory() -> int | None:
    """Memory that is free now, in bytes; None where the system does not tell."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    lines = (line.split() for line in text.splitlines())
    return next((1024 * int(words[1]) for words in lines if words[0] == "MemAvailable:"), None)
