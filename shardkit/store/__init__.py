"""Bytes on disk and in buckets: tars, indexes, manifests, and the order in which they are published.

Here: everything that specs/FORMAT.md describes, and verifying it.
Elsewhere: what the samples mean (records), in which order they are read (read), who makes them (build).
"""
