"""What is done to a dataset once it is built: new versions over the same shards.

Here: splits, near-duplicates and benchmarks left out, licences, data cards.
Elsewhere: building (build), reading (read), what people look at (report).
"""
