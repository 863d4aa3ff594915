"""Normalisers: from the raw row of a source to a draft of a sample.

Here: the table (table.py), one small function for each normaliser, and the way from a spec to them (door.py).
Elsewhere: the structs (records.row, records.sample), decoding media (media), reading and gathering rows (sources).
"""

from shardkit.records.normalize.door import check_normalizer as check_normalizer
from shardkit.records.normalize.door import columns_read as columns_read
from shardkit.records.normalize.door import normalize as normalize
from shardkit.records.normalize.door import possible_modalities as possible_modalities
from shardkit.records.normalize.table import NORMALIZERS as NORMALIZERS
from shardkit.records.normalize.texts import only_texts as only_texts
from shardkit.records.normalize.texts import said_in as said_in
