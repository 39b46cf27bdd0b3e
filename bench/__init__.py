"""streamcore_bench: what `streamctl bench` measures and how; docs/benchmarks.md explains it."""
