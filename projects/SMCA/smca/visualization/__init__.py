"""Pictures: predictions beside ground truth, and the spatial prior of detections."""

from .detections import draw_detections
from .png import save_png
from .prior import DetectionPrior, detection_priors, draw_priors, prior_maps

__all__ = [
    "DetectionPrior",
    "detection_priors",
    "draw_detections",
    "draw_priors",
    "prior_maps",
    "save_png",
]
