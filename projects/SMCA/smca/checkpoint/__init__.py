from smca.checkpoint.conversion.convert_released import convert_released
from smca.checkpoint.loading.initial_weights import (
    frozen_norm_without_weights,
    load_initial_weights,
)
from smca.checkpoint.loading.whole_model import load_described, weights_of_described
from smca.checkpoint.reading.model_file import ModelFile, read_model_file
from smca.description.allowed_targets import allow_target
from smca.description.model_info import ModelInfo, build_model_from_info, model_info_from_lazy

__all__ = [
    "ModelFile",
    "ModelInfo",
    "allow_target",
    "build_model_from_info",
    "convert_released",
    "frozen_norm_without_weights",
    "load_described",
    "load_initial_weights",
    "model_info_from_lazy",
    "read_model_file",
    "weights_of_described",
]
