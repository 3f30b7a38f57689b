"""Measurements of docs/benchmarks.md. Each module is a command; ``python -m benchmarks`` is all."""
