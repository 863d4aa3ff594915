# Short names for the project's commands. Nothing needs `just`: each recipe shows the command that it calls.

python := ".venv/bin/python"

# build the demo dataset, train on it, show the results
demo *ARGS:
    python3 tools/demo.py {{ARGS}}

# everything that must hold: format, lint, types, tests
test *ARGS:
    python3 tools/test.py {{ARGS}}

# the same as test
check *ARGS:
    python3 tools/test.py {{ARGS}}

# build a dataset from a spec: just build specs/builds/demo.yaml --sample 20
build *ARGS:
    {{python}} -m shardkit build {{ARGS}}

# train a run: just train specs/runs/demo.yaml --steps 100
train *ARGS:
    {{python}} -m trainer train {{ARGS}}

# measure beside peers in the same run: one JSON object with the ratios (just bench --scale 0.1); tables without --json
bench *ARGS:
    {{python}} -m tools.bench --peers --json {{ARGS}}

# the tests that want a GPU, then training at true sizes: MFU, samples a second, waiting, memory (tiny without a GPU)
gpu *ARGS:
    {{python}} -m pytest tests/trainer -q
    {{python}} -m tools.bench.training {{ARGS}}

# format and apply the safe fixes
fmt:
    {{python}} -m ruff format .
    {{python}} -m ruff check --fix .
