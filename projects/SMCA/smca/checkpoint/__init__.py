from smca.allowed_targets import allow_target

from .convert_released import convert_released
from .describe_model import build_model_from_info, model_info_from_lazy
from .initial_weights import check_whole, frozen_norm_without_weights, load_initial_weights
from .model_file import ModelFile, read_model_file
from .model_info import ModelInfo

__all__ = [
    "ModelFile",
    "ModelInfo",
    "allow_target",
    "build_model_from_info",
    "check_whole",
    "convert_released",
    "frozen_norm_without_weights",
    "load_initial_weights",
    "model_info_from_lazy",
    "read_model_file",
]
