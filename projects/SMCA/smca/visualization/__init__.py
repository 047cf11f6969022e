"""Pictures: predictions beside ground truth, and the spatial prior of detections."""

from .boxes import save_png
from .detections import draw_detections
from .prior import DetectionPrior, detection_priors, draw_priors, prior_maps

__all__ = [
    "DetectionPrior",
    "detection_priors",
    "draw_detections",
    "draw_priors",
    "prior_maps",
    "save_png",
]
