"""Normalisers: from the raw row of a source to a draft of a sample.

Here: the table, one small function for each normaliser, and the checks on text and columns that they share.
Elsewhere: the structs (records.row, records.sample), decoding media (media), reading rows (sources).
"""

from shardkit.records.normalize.table import NORMALIZERS as NORMALIZERS
from shardkit.records.normalize.table import Normalizer as Normalizer
from shardkit.records.normalize.table import check_normalizer as check_normalizer
from shardkit.records.normalize.table import columns_read as columns_read
from shardkit.records.normalize.table import normalize as normalize
from shardkit.records.normalize.table import possible_modalities as possible_modalities
