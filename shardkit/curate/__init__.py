"""What is done to a dataset once it is built: new versions over the same shards.

Here: splits, near-duplicates, samples that hold what a benchmark asks, data cards.
Elsewhere: building (build), reading (read), what people look at (report).
"""
