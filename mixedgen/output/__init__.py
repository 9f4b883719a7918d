"""What a fit hands on: summaries, tables, plots, frames, adapters."""
