"""Sampling: a source of which only chosen rows are read, in an order that depends on seed and revision alone.

Here: the door. The method is in choose.py, what it holds in reservoir.py, the chosen rows on disk in chosen.py,
fetching them in sampled.py.
Elsewhere: how many rows are wanted (build.quotas), the specs (spec.sampling).
"""

from shardkit.sources.sampling.sampled import Sampled as Sampled
from shardkit.sources.sampling.scan import ReadsOn as ReadsOn
from shardkit.sources.sampling.scan import Scanned as Scanned
from shardkit.sources.sampling.scan import Scans as Scans
from shardkit.sources.sampling.scan import scan_rows as scan_rows
