"""Inspects a data set before training: ``smca-check-dataset``."""

from .check import CheckReport, check_dataset
from .findings import Finding
from .fix import fix_dataset

__all__ = ["CheckReport", "Finding", "check_dataset", "fix_dataset"]
