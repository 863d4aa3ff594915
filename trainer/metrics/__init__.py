"""What a run reports: lines of JSON, TensorBoard events, the plot of the loss and a page of curves."""

from trainer.metrics.lines import MetricsFile, read_evaluations, read_metrics
from trainer.metrics.page import write_page
from trainer.metrics.plot import plot_loss
from trainer.metrics.recorder import Metrics, Unwritten

__all__ = ["Metrics", "MetricsFile", "Unwritten", "plot_loss", "read_evaluations", "read_metrics", "write_page"]
