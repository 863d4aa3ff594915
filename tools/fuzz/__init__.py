"""Fuzzing: every decoder that reads bytes of others, under atheris where it is installed, else under plain mutation.

Here: one program, `python -m tools.fuzz TARGET --seconds 60`; the tests run a part under hypothesis.
Elsewhere: whole datasets damaged bit by bit (tools.faults integrity), tools compared (tools.conformance).
"""
