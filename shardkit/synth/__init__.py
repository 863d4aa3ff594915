"""Generators: rows computed from (seed, index) alone."""
