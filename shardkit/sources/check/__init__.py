"""An entry of the catalog compared with what its host has today.

Here: what is compared (entry.py, hub.py), columns and their types (columns.py), what is told (found.py).
Elsewhere: the entries (spec.catalog), reading sources (sources.hub and its neighbours).
"""
