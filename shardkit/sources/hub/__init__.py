"""Data sets of the Hugging Face Hub, streamed.

Here: the door to the source. It reads the repository's own files by ranges, with cursors of our own, where they are of
a kind that we read (source.py, layout.py, card.py, remote.py, parquet.py), else through `datasets` (streaming.py).
Elsewhere: requests to the Hub (store.hub), the formats of other files (jsonl.py, csv.py, json_list.py).
"""

from shardkit.sources.hub.source import Hub as Hub
