"""Single-scale SMCA with all parts beyond the paper: dynamic boxes, denoising, groups, IoU in classes, selection."""

from .plus import use_parts
from .smca_single_scale import model

use_parts(model, "ABCDE")
