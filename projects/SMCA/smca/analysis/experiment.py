"""What is known of one experiment: counted and measured here, and printed in the paper."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from smca.description.model_data import lazy_model_as_data
from smca.errors import InputError
from smca.experiments import load_experiment

from .complexity import Complexity, analyze
from .latency import detection_call, measure_in_turns, ratio_of_rounds
from .paper import DETR, PAPER, RELEASED, PaperResult, ReleasedResult


@dataclass(frozen=True)
class Latency:
    """
    Attributes:
        seconds: median per image.
        ratio: median over the rounds of the time over published DETR's at the same input size.
    """

    seconds: float
    ratio: float


@dataclass(frozen=True)
class Experiment:
    """
    Attributes:
        name: zoo name, or a config file's path.
        size: (height, width) of the input in pixels.
        complexity: counted here.
        latency: measured here; None where it was not asked for.
        paper: the paper's numbers; None where it has none.
        released: what the authors of another detector report of their release; None without one.
    """

    name: str
    size: tuple[int, int]
    complexity: Complexity
    latency: Latency | None
    paper: PaperResult | None
    released: ReleasedResult | None = None


def analyze_experiments(
    configs: Mapping[str, DictConfig],
    *,
    size: tuple[int, int] | None = None,
    latency_repeat: int = 0,
    device: torch.device | None = None,
) -> list[Experiment]:
    """Parameters, multiply-adds and activations of experiments, one after the other.

    Args:
        configs: LazyConfig by zoo name or path.
        size: (height, width) for all; by default each config's own, see :func:`input_size`.
        latency_repeat: rounds of the latency measurement; 0 measures none.
        device: where latency is measured, by default the CPU.

    Raises:
        InputError: naming the config, if its model refuses what it is given, or is none that is known here.
    """
    sizes = {name: size or input_size(name, config) for name, config in configs.items()}
    counted = _count(configs, sizes)
    latencies = {}
    if latency_repeat:
        latencies = measure_latencies(
            configs, sizes, repeat=latency_repeat, device=device or torch.device("cpu")
        )
    return [
        Experiment(
            *(name, sizes[name], counted[name], latencies.get(name)),
            paper=PAPER.get(name),
            released=RELEASED.get(name),
        )
        for name in configs
    ]


def input_size(name: str, config: DictConfig) -> tuple[int, int]:
    """(height, width) of a 4:3 image resized as the config does in tests: 800 x 1066 for COCO.

    Raises:
        InputError: if the config does not resize its test images.
    """
    try:
        resize = config.dataloader.test.mapper.augmentations[0]
        short, longest = resize.short_edge_length, resize.max_size
    except (OmegaConfBaseException, AttributeError, IndexError, TypeError) as error:
        raise InputError(
            f"config {name} does not say how test images are resized; give a size"
        ) from error
    return short, min(longest, short * 4 // 3)


def measure_latencies(
    configs: Mapping[str, DictConfig],
    sizes: Mapping[str, tuple[int, int]],
    *,
    repeat: int,
    device: torch.device,
) -> dict[str, Latency]:
    """Time the models, untrained, and published DETR in turns.

    Equal models at equal sizes are timed once.
    """
    detr = load_experiment(DETR).model
    calls, keys = {}, {}

    def add(model: DictConfig, size: tuple[int, int]) -> str:
        key = _model_key(model, size)
        if key not in calls:
            calls[key] = detection_call(instantiate(model), size, device)
        return key

    for name, config in configs.items():
        keys[name] = add(config.model, sizes[name]), add(detr, sizes[name])
    synchronize = torch.cuda.synchronize if device.type == "cuda" else None
    seconds = measure_in_turns(calls, repeat=repeat, synchronize=synchronize)
    return {
        name: Latency(
            statistics.median(seconds[own]), ratio_of_rounds(seconds[own], seconds[reference])
        )
        for name, (own, reference) in keys.items()
    }


def _count(
    configs: Mapping[str, DictConfig], sizes: Mapping[str, tuple[int, int]]
) -> dict[str, Complexity]:
    known: dict[str, Complexity] = {}
    counted = {}
    for name, config in configs.items():
        try:
            key = _model_key(config.model, sizes[name])
            if key not in known:
                known[key] = analyze(config.model, sizes[name])
        except (InputError, OmegaConfBaseException) as error:
            size = "x".join(map(str, sizes[name]))
            reason = str(error).splitlines()[0]
            raise InputError(
                f"the model of config {name} fails on a {size} image: {reason}"
            ) from error
        except Exception as error:
            error.add_note(f"This is the model of config {name}.")
            raise
        counted[name] = known[key]
    return counted


def _model_key(model: DictConfig, size: tuple[int, int]) -> str:
    """Equal for equal models at equal sizes, such as those that differ in their schedule only."""
    return json.dumps([lazy_model_as_data(model), size], sort_keys=True)
