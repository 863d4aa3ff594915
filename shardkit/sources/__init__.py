"""Sources: where rows come from. Each opens at a cursor, splits into fixed partitions and reports its revision.

Here: the protocol (base.py), one file per kind, and the table that dispatches (table.py).
Elsewhere: what rows mean (records.normalize), generators (synth).
"""
