"""A model that predicts, with all of its weights: what is left as constructed would predict noise."""

import torch
from torch import Tensor, nn

from smca.checkpoint.reading.model_file import ModelFile
from smca.description.model_info import ModelInfo, build_model_from_info

from .load_report import check_whole
from .our_names import to_our_names


def weights_of_described(info: ModelInfo, file: ModelFile) -> dict[str, Tensor]:
    """The tensors of a file that fill a described model, by the model's names; its moving averages if it has any.

    Raises:
        InputError: if they do not, or the description is of no model.
    """
    # Sizes are compared before there is memory for them.
    with torch.device("meta"):
        described = build_model_from_info(info)
    tensors, _ = to_our_names(file, described)
    check_whole(described.state_dict(), tensors)
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
