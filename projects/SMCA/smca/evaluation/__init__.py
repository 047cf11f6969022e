"""COCO evaluation, its training hook and the convergence plot."""

from .coco_evaluator import CocoEvaluator
from .convergence_plot import CurvePoint, plot_convergence, read_curves
from .hook import EvaluationHook
from .outcome import Boxes, CocoOutcome

__all__ = [
    "Boxes",
    "CocoEvaluator",
    "CocoOutcome",
    "CurvePoint",
    "EvaluationHook",
    "plot_convergence",
    "read_curves",
]
