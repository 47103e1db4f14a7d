"""The project's own measurements: `python -m benchmarks`, explained in docs/performance.md."""
