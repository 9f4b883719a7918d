"""Time and memory of mixedgen beside its peers: ``python -m tests.benchmarks --help``."""
