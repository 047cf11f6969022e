"""Full SMCA with all parts beyond the paper: dynamic boxes, denoising, groups, IoU in classes, selection."""

from .plus import use_parts
from .smca import model

use_parts(model, "ABCDE")
