"""Trains models on shardkit datasets; everything that needs torch lives here."""
