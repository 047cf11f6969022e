"""Weights for Detectron2's checkpointer, which runs what a pickle asks for, and only logs what does not fit."""

import os

import torch

from smca.checkpoint.reading.fetch import check_source, fetch_weights
from smca.checkpoint.reading.model_file import ModelFile, first_not_finite, read_model_file
from smca.description.model_data import build_model_from_data
from smca.errors import InputError

from .load_report import fit
from .our_names import by_likeness

_DETECTRON2 = ("detectron2://", "https://dl.fbaipublicfiles.com/detectron2/")
"""Where Detectron2's own files are."""


def read_predictor_weights(source: str, *, must_exist: bool = False) -> ModelFile | None:
    """What Detectron2's checkpointer is to load as ``MODEL.WEIGHTS``, looked at before.

    Args:
        source: the field's value.
        must_exist: whether a file that does not exist is refused here.

    Returns:
        The checkpoint; None for none, for one of Detectron2's own, and for a file that does not exist, which Detectron2
        says itself.

    Raises:
        InputError: if the file cannot be fetched, holds more than tensors, is no checkpoint or is damaged, or is one
            that Detectron2 cannot read.
    """
    check_source(source)
    if not source or source.startswith(_DETECTRON2):
        return None
    found = None
    # Detectron2's main branch takes options after a question mark.
    for name in {source, source.partition("?")[0]}:
        path = name if os.path.isfile(name) else fetch_weights(name)
        if not os.path.isfile(path):
            continue
        if path.endswith(".safetensors"):
            raise InputError(
                f"{path}: Detectron2's checkpointer reads no safetensors; smca.Predictor and train.init_checkpoint do, "
                "and tools/publish_checkpoint.py makes a .pth of it"
            )
        found = read_model_file(path)
    return read_model_file(source) if found is None and must_exist else found


def misfit_with_model(file: ModelFile, model: dict) -> str | None:
    """What keeps a file from filling a model when Detectron2's checkpointer loads it; None if nothing.

    Args:
        file: the checkpoint. Detectron2 takes its raw weights, not the moving averages, and no names of classes.
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
    return fit(own, by_likeness(file, own))[1].misfit()


def is_backbone_only(file: ModelFile) -> bool:
    """Whether a file is what a training starts from, such as ImageNet weights, and no detector."""
    return file.matching_heuristics or all(n.startswith("backbone.") for n in file.state_dict)
