"""Parts beyond the paper, each for one field of a config: what makes detection transformers converge in fewer steps."""

from .reference_position import ReferencePosition
from .refinement import BoxRefinement

__all__ = ["BoxRefinement", "ReferencePosition"]
