"""What is done to a dataset once it is built: new versions over the same shards.

Here: splits.
Elsewhere: building (build), reading (read), what people look at (report).
"""
