"""Parts beyond the paper, each for one field of a config: what makes detection transformers converge in fewer steps."""

from .anchors import AnchorQueries
from .box_modulation import BoxModulation
from .denoising import DenoisingQueries
from .groups import GroupedQueries
from .iou_classification import IouClassification
from .reference_position import ReferencePosition
from .refinement import BoxRefinement
from .selection import SelectedQueries

__all__ = [
    "AnchorQueries",
    "BoxModulation",
    "BoxRefinement",
    "DenoisingQueries",
    "GroupedQueries",
    "IouClassification",
    "ReferencePosition",
    "SelectedQueries",
]
