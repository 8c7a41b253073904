"""One script per claim of docs/benchmarks.md; run from the repository's root as python -m benchmarks.NAME."""
