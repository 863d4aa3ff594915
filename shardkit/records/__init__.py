"""Typed records: what a row, a draft and a sample are, and the normalisers between them.

Here: the structs that pass between rooms and the pure functions from raw rows to drafts.
Elsewhere: decoding media (media), bytes on disk (store).
"""
