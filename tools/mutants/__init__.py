"""Mutants: the code with one safeguard removed at a time; a named test must fail on each.

Here: one program, `python -m tools.mutants`.
Elsewhere: the tests that kill them.
"""
