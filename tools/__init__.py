"""Programs over shardkit and trainer: bootstrap, demo, tests, benchmarks, faults."""
