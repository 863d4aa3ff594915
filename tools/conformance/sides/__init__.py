"""Each tool's own writer and readers, behind the same few functions.

Here: the table of tools, and the features that they may offer.
Elsewhere: the processes that they run in (worker.py, process.py), the cases (cases.py).

A side is a module with `version()`, `ABOUT` (how it is configured), `OFFERS` (some of FEATURES), `DATA` (the pattern of
its data files), `write(folder, shards)`, `read(place, cache)` and, where it divides or resumes, `batches(place, how,
state)`. It imports nothing of ours but material.py (except shardkit's own), as it may run in another environment.
"""

from __future__ import annotations

SIDES = {
    "shardkit": "tools.conformance.sides.ours",
    "webdataset": "tools.conformance.sides.with_webdataset",
    "MosaicML": "tools.conformance.sides.with_mosaic",
    "LitData": "tools.conformance.sides.with_litdata",
    "energon": "tools.conformance.sides.with_energon",
    "HF datasets": "tools.conformance.sides.with_hf",
}
FEATURES = {
    "own tars": "its own data are tars",
    "tars": "it reads tars that others made",
    "cache": "it keeps fetched files on disk",
    "http": "it reads plain http",
    "ranks": "it divides an epoch among ranks",
    "resume": "it goes on from a saved state",
    "reshape": "so under another number of ranks, workers or batch size",
    "mixing": "it mixes datasets by weights, with a state",
    "empty shard": "its writer can make a shard without samples",
}
