"""Curating a dataset: what is said twice, what a benchmark asks."""
