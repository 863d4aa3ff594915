"""Losses: functions of (model, batch) that give a loss and what to report."""
