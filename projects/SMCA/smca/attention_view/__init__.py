"""Where queries look: priors, co-attention and sampling points of detections, and the command ``smca-attention``."""

from .objects import Seen, look_at_image
from .recording import NetworkRun, record
from .views import LayerView, QueryView, view_queries

__all__ = [
    "LayerView",
    "NetworkRun",
    "QueryView",
    "Seen",
    "look_at_image",
    "record",
    "view_queries",
]
