"""The catalog: what is known of public datasets, benchmarks and repositories, and how each is read.

Here: the entry (entry.py), where entries lie (folder.py), choosing among them (choose.py), making sources of build
specs from them (resolve.py).
Elsewhere: the entries themselves (specs/sources), showing them (report.catalog), comparing them with what is there
today (sources.check).
"""
