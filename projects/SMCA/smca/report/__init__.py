"""The report on a training: its curves, its numbers, its errors by kind and the images that it finds hard."""

from .after_training import report_training
from .page import write_report
from .reported_run import ReportedRun
from .source import Options, report_of

__all__ = ["Options", "ReportedRun", "report_of", "report_training", "write_report"]
