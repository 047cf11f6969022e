"""Detectors as files that run without this package: ONNX and ``torch.export``; the command ``smca-export``."""

from .exporter import FORMATS, PRECISIONS, ExportReport, export_model
from .graph import DetectionGraph

__all__ = ["FORMATS", "PRECISIONS", "DetectionGraph", "ExportReport", "export_model"]
