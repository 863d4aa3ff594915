"""Conformance: one table of cases, the same for shardkit and its peers; and resumes by the thousand.

Here: `python -m tools.conformance` (the table) and `python -m tools.conformance resume`; tests run a part of both.
Elsewhere: damage to every bit of one shard (tools.faults), speed (tools.bench).
"""
