from smca.checkpoint.conversion.convert_released import convert_released
from smca.checkpoint.loading.initial_weights import (
    check_whole,
    frozen_norm_without_weights,
    load_initial_weights,
)
from smca.checkpoint.reading.model_file import ModelFile, read_model_file
from smca.description.allowed_targets import allow_target
from smca.description.model_info import ModelInfo, build_model_from_info, model_info_from_lazy

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
