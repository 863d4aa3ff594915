"""Soak: readers and a server killed at random and begun again, for minutes; the sequence exact, memory and files flat.

Here: one program, `python -m tools.soak --minutes 10`; the tests run a short one, by counts.
Elsewhere: kills of builds and of training (tools.faults), resumes without processes (tools.conformance resume).
"""
