"""Faults: proves that a build survives kills, power cuts, full and failing disks, and stays within its memory.

Here: one program, `python -m tools.faults kill|strace|calls|power|io|memory`; the tests run a fixed smaller part.
Elsewhere: the hook through which calls are counted, broken and recorded (shardkit.store.faults).
"""
