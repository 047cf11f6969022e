"""From a model to a file that has been compared with it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from smca.checkpoint import ModelInfo
from smca.errors import InputError
from smca.modeling.classification import (
    Classification,
    CrossEntropyClassification,
    FocalClassification,
)
from smca.version import __version__
from smca.whole_file import replacing

from .comparison import (
    SMALLEST_SIDE,
    Difference,
    compare,
    draws_needed,
    refuse_difference,
    refuse_other_detections,
)
from .graph import INPUTS, DetectionGraph, trace
from .onnx_file import Session, as_text, describe, import_onnx, to_float16, to_int8, to_onnx
from .pt2_file import Program, save_pt2

FORMATS = {".onnx": "onnx", ".pt2": "pt2"}
PRECISIONS = ("float32", "float16", "int8")
_ROUGHLY = 0.1
"""Mean difference of a box, in sides of the image, that fewer bits may cause; more is a conversion that went wrong."""


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: the file.
        size: its bytes.
        description: its metadata.
        differences: from the model, of the file itself.
    """

    path: Path
    size: int
    description: dict[str, str]
    differences: list[Difference]


def export_model(
    model: torch.nn.Module,
    info: ModelInfo,
    output: str | os.PathLike,
    *,
    format: str | None = None,
    detections: int | None = None,
    precision: str = "float32",
) -> ExportReport:
    """Trace a detector, write it, and compare the file with the model before it gets its name.

    Args:
        model: with its weights; it stays as it is.
        info: its description, for class names and image sizes.
        output: the file.
        format: "onnx" or "pt2"; None goes by the ending of ``output``.
        detections: as :class:`DetectionGraph`.
        precision: "float32"; of an ONNX file also "float16", or "int8" of the matrix products' weights. Those are
            made of a float32 file that has been compared.

    Raises:
        InputError: if an argument is none of these, what is needed is not installed, the model is of another kind, or
            the file gives something else than the model. Then there is no file.
    """
    output = Path(output)
    kind = _kind_of(output, format)
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}, it must be one of {', '.join(PRECISIONS)}")
    if kind == "pt2" and precision != "float32":
        raise InputError(f"precision {precision} is for ONNX files; a .pt2 file is float32")
    if output.is_dir() or not output.parent.is_dir():
        raise InputError(f"output {output} must be a file in a folder that is there")
    if kind == "onnx":
        import_onnx()
    graph = DetectionGraph(model, detections=detections)
    model = model.eval()
    program = trace(graph)
    description = as_text(_describe(model, info, graph, precision))
    draws = draws_needed(model)

    def difference(run: Callable, scale: int = 1) -> list[Difference]:
        return compare(model, run, isolates=graph.isolates, scale=scale, draws=draws)

    def refuse_fault(run: Callable, scale: int = 1) -> list[Difference]:
        found = difference(run, scale)
        refuse_difference(found)
        if detections is not None:
            refuse_other_detections(graph, run, scale=scale)
        return found

    with replacing(output, ending=output.suffix) as path:
        if kind == "pt2":
            save_pt2(program, path, description)
            # A graph of torch.export holds that no axis of a level has a single cell.
            differences = refuse_fault(Program(path), graph.coarsest // SMALLEST_SIDE + 1)
        else:
            proto = to_onnx(program, graph.output_names, description)
            path.write_bytes(proto.SerializeToString())
            differences = refuse_fault(Session(path))
            if precision != "float32":
                _convert(proto, path, precision, description)
                differences = difference(Session(path))
                _refuse_nonsense(differences, precision)
        size = path.stat().st_size
    return ExportReport(output, size, description, differences)


def _kind_of(output: Path, format: str | None) -> str:
    kind = format or FORMATS.get(output.suffix.lower())
    if kind not in FORMATS.values():
        raise InputError(
            f"output {output} ends neither in .onnx nor in .pt2; name it so, or give the format"
            if format is None
            else f"format is {format!r}, it must be onnx or pt2"
        )
    return kind


def _describe(
    model: torch.nn.Module, info: ModelInfo, graph: DetectionGraph, precision: str
) -> dict[str, Any]:
    return {
        "smca_version": __version__,
        "class_names": list(info.class_names),
        "channel_order": model.input_format,
        "min_size": info.min_size_test,
        "max_size": info.max_size_test,
        "classification": classification_kind(model.classification),
        "max_detections": graph.detections or getattr(model.postprocessor, "max_detections", 100),
        "precision": precision,
        "inputs": list(INPUTS),
        "outputs": list(graph.output_names),
        "config_name": info.config_name,
    }


def classification_kind(classification: Classification) -> str:
    """How logits become detections: "sigmoid", "softmax" with "no object" last, or "other"."""
    kind = type(classification)
    for known, name in (
        (FocalClassification, "sigmoid"),
        (CrossEntropyClassification, "softmax"),
    ):
        # One of a user's own may inherit and still score in another way.
        if issubclass(kind, known) and all(
            getattr(kind, method) is getattr(known, method) for method in ("scores", "select")
        ):
            return name
    return "other"


def _convert(proto: Any, path: Path, precision: str, description: dict[str, str]) -> None:
    onnx, _ = import_onnx()
    if precision == "float16":
        converted = to_float16(proto)
    else:
        to_int8(proto, path)
        converted = onnx.load(path)
    # A conversion need not keep it.
    describe(converted, description)
    path.write_bytes(converted.SerializeToString())


def _refuse_nonsense(differences: list[Difference], precision: str) -> None:
    """Fewer bits make other numbers, and some queries other ones; most boxes stay where they were."""
    boxes = next(item for item in differences if item.output == "boxes")
    if not boxes.mean <= _ROUGHLY:
        raise InputError(
            f"in {precision} the boxes are {boxes.mean:.2g} sides of the image away on average (allowed: {_ROUGHLY:g}) "
            "so no file was written"
        )
