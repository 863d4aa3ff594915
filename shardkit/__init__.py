"""Builds and reads multimodal datasets of tar shards; free of torch."""
