"""Whether a file fills a whole model when Detectron2's checkpointer loads it, which itself only logs what is left."""

import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts

from smca.checkpoint.reading.model_file import ModelFile, first_not_finite
from smca.description.model_data import build_model_from_data
from smca.errors import InputError

from .initial_weights import compare_weights
from .load_report import LoadReport


def compare_with_model(file: ModelFile, model: dict) -> LoadReport:
    """What would become of a file's tensors in a model that is to predict; as they are, without names of classes.

    Args:
        file: the checkpoint. Detectron2 takes its raw weights, not the moving averages.
        model: the ``model`` node as plain data.

    Raises:
        InputError: if the model cannot be built, or a tensor holds NaN or infinity.
    """
    bad = first_not_finite(file.state_dict)
    if bad is not None:
        raise InputError(
            f"the tensor {bad} of {file.path} holds NaN or infinity; take another checkpoint"
        )
    # Shapes are all that is compared, so no memory is taken.
    with torch.device("meta"):
        own = build_model_from_data(model).state_dict()
    tensors = file.state_dict
    if file.matching_heuristics:
        tensors = align_and_update_state_dicts(own, tensors, c2_conversion=file.author == "Caffe2")
    return compare_weights(own, tensors, file.path)


def is_backbone_only(file: ModelFile) -> bool:
    """Whether a file is what a training starts from, such as ImageNet weights, and no detector."""
    return file.matching_heuristics or all(n.startswith("backbone.") for n in file.state_dict)
