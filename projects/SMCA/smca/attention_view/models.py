"""Models to look into: from checkpoints, with a name and a sentence for people."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from torch import nn

from smca.errors import InputError
from smca.inference.predictor import Predictor
from smca.modeling import SpatialModulation
from smca.modeling.deformable import ReferenceSampling
from smca.modeling.plus import BoxModulation

_OWN_CONFIG = "-"


@dataclass(frozen=True)
class NamedModel:
    """A model with what it is called.

    Attributes:
        name: for headings.
        kind: what its co-attention is, a sentence.
        predictor: the model ready to run.
    """

    name: str
    kind: str
    predictor: Predictor


def load_models(
    weights: Sequence[str],
    configs: Sequence[str] = (),
    names: Sequence[str] = (),
    *,
    device: str = "auto",
) -> list[NamedModel]:
    """Models of checkpoints.

    Args:
        weights: files, URLs or published names, as ``smca-predict`` takes them.
        configs: none, or one for each checkpoint; "-" for one that describes its model.
        names: none, or one for each checkpoint; by default what kind of model it is.
        device: "auto", "cpu", "cuda".

    Raises:
        InputError: if there are others than as many, or a checkpoint cannot be loaded.
    """
    for option, given in (("--config-file", configs), ("--names", names)):
        if given and len(given) != len(weights):
            raise InputError(
                f"{option} names {len(given)}, but --weights {len(weights)}; give one for each checkpoint"
            )
    predictors = []
    for index, source in enumerate(weights):
        config = configs[index] if configs else _OWN_CONFIG
        if config == _OWN_CONFIG:
            predictors.append(Predictor.from_checkpoint(source, device=device))
        else:
            predictors.append(Predictor.from_config(config, source, device=device))
    kinds = [describe(predictor.model) for predictor in predictors]
    chosen = list(names) or _different([name for name, _ in kinds], weights)
    return [
        NamedModel(name, kind, predictor)
        for name, (_, kind), predictor in zip(chosen, kinds, predictors, strict=True)
    ]


def describe(model: nn.Module) -> tuple[str, str]:
    """A name of the kind of model, and a sentence on where its queries look."""
    modulation = getattr(getattr(model, "decoder", None), "modulation", None)
    levels = len(getattr(getattr(model, "neck", None), "strides", ())) or 1
    scales = "one scale" if levels == 1 else f"{levels} scales"
    if modulation is None:
        return (
            "DETR",
            "Nothing tells a query where to look: likeness of features alone decides, over the whole image.",
        )
    if isinstance(modulation, BoxModulation):
        return (
            f"SMCA plus, {scales}",
            "A query looks through a Gaussian prior that follows its box from layer to layer.",
        )
    if isinstance(modulation, SpatialModulation):
        return (
            f"SMCA, {scales}",
            "A query guesses a centre and a size first, and looks through that Gaussian prior.",
        )
    if isinstance(modulation, ReferenceSampling):
        return (
            f"Deformable DETR, {scales}",
            "A query looks at a few points around where it is, and weighs what it finds there.",
        )
    name = type(modulation).__name__
    return name, f"A query looks through what {name} gives it."


def _different(names: Sequence[str], weights: Sequence[str]) -> list[str]:
    """Names with their file where two are the same."""
    counts = Counter(names)
    return [
        name if counts[name] == 1 else f"{name} ({'/'.join(PurePath(source).parts[-2:])})"
        for name, source in zip(names, weights, strict=True)
    ]
