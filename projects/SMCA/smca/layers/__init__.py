"""Maths of the method, free of Detectron2.

Shape legend, used in every file below:
    B images in the batch, Q object queries, H heads, C channels of the model, D = C / H channels of a head,
    S scales (feature levels), (h, w) a feature map and N = h * w its cells, L decoder layers, K class outputs.
Points are always (x, y), sizes of maps always (h, w). In a padding mask True means padded.
"""

from .attention import CoAttention, MultiheadAttention
from .deformable_attention import DeformableAttention
from .gaussian_prior import gaussian_log_prior, separable_log_prior
from .initialization import xavier_uniform_matrices_
from .mlp import MLP, FeedForward
from .precision import at_least_float32, full_precision
from .recomputation import run_layer
from .separable_bias import SeparableBias, dense_bias
from .sine_encoding import sine_coordinate_encoding, sine_position_encoding

__all__ = [
    "MLP",
    "CoAttention",
    "DeformableAttention",
    "FeedForward",
    "MultiheadAttention",
    "SeparableBias",
    "at_least_float32",
    "dense_bias",
    "full_precision",
    "gaussian_log_prior",
    "run_layer",
    "separable_log_prior",
    "sine_coordinate_encoding",
    "sine_position_encoding",
    "xavier_uniform_matrices_",
]
