"""Engines: ways to solve the mixed-model equations, and the choice between them."""

from __future__ import annotations

import logging

from mixedgen.design.design import Design
from mixedgen.engines.dense import DenseEngine
from mixedgen.engines.forecast import Forecast
from mixedgen.engines.henderson import HendersonEngine
from mixedgen.engines.memory import enough_memory, free_memory
from mixedgen.engines.system import Engine, Solution, System
from mixedgen.errors import ArgumentError, EngineError

__all__ = ["ENGINES", "Engine", "Forecast", "Solution", "System", "choose"]

logger = logging.getLogger("mixedgen.engines")
WORTH_SAYING = 5_000_000  # elements of the factor from which a step takes seconds

WORTH_COMPARING = 1e9  # work of an evaluation, about a tenth of a second, below which no other engine is looked at
GAIN = 3.0  # times less work, before another engine is taken: forecasts are no better than that

ENGINES: dict[str, type[Engine]] = {kind.name: kind for kind in (HendersonEngine, DenseEngine)}


def choose(design: Design, name: str = "auto") -> Engine:
    """Engine of a name, analysed for a design; ``"auto"`` takes the one of least work by forecast.

    Henderson's equations are analysed first: they have any size, and their factor has fewer elements than V wherever
    there are fewer levels than records. Dense algebra on V wins where a dense K has many more levels than records.

    Raises
    ------
    ArgumentError
        If there is no such engine.
    EngineError
        If the memory for it is not there.
    """
    if name != "auto" and name not in ENGINES:
        raise ArgumentError(f"there is no engine {name!r}; choose one of: auto, {', '.join(ENGINES)}.")
    with enough_memory("while the equations were analysed"):
        engine = least_work(design) if name == "auto" else ENGINES[name](design)
    require_memory(engine.forecast())
    return engine


def least_work(design: Design) -> Engine:
    """Henderson's equations, or the engine whose outlook promises much less work in the memory there is."""
    engine: Engine = HendersonEngine(design)
    work, free = engine.forecast().work, free_memory()
    if work < WORTH_COMPARING:
        return engine
    outlooks = {name: look for name, kind in ENGINES.items() if (look := kind.outlook(design)) is not None}
    better = {
        name: look.work
        for name, look in outlooks.items()
        if look.work * GAIN < work and (free is None or look.bytes < free)
    }
    return ENGINES[min(better, key=better.__getitem__)](design) if better else engine


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
