"""A model that predicts, with all of its weights: what is left as constructed would predict noise."""

import torch
from torch import Tensor, nn

from smca.checkpoint.reading.model_file import ModelFile, first_not_finite
from smca.description.model_info import ModelInfo, build_model_from_info
from smca.errors import InputError

from .load_report import fit
from .our_names import to_our_names


def weights_of_described(info: ModelInfo, file: ModelFile) -> dict[str, Tensor]:
    """The tensors of a file that fill a described model, by the model's names; its moving averages if it has any.

    Raises:
        InputError: if they do not, or one holds NaN or infinity, or the description is of no model.
    """
    # Sizes are compared before there is memory for them.
    with torch.device("meta"):
        described = build_model_from_info(info)
    tensors, _ = to_our_names(file, described)
    misfit = fit(described.state_dict(), tensors)[1].misfit()
    if misfit:
        raise InputError(f"its tensors are not those of this model: {misfit}")
    bad = first_not_finite(tensors)
    if bad is not None:
        raise InputError(
            f"its tensor {bad} holds NaN or infinity, so that the model would predict nothing"
        )
    return tensors


def load_described(info: ModelInfo, file: ModelFile) -> nn.Module:
    """The described model on the CPU, in evaluation mode, with the weights of a file.

    Raises:
        InputError: as :func:`weights_of_described`.
    """
    weights = weights_of_described(info, file)
    model = build_model_from_info(info)
    model.load_state_dict(weights, strict=False)
    return model
