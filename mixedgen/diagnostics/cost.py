"""What a step of the optimiser costs, in words."""

from __future__ import annotations

from mixedgen.engines.forecast import Forecast


def cost_text(forecast: Forecast) -> str:
    """Size and price of one evaluation."""
    size = forecast.bytes
    memory = f"{size / 2**30:.1f} GB" if size > 2**30 else f"{max(size / 2**20, 0.1):.1f} MB"
    return (
        f"{forecast.order:,} equations, {forecast.nonzeros:,} elements in the factor, {forecast.flops:.2g} flops; "
        f"about {forecast.seconds:.2g} s and {memory} for each step."
    )
