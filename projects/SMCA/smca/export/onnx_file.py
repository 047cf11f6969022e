"""ONNX files: written from a traced graph, described, converted to fewer bits, run."""

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from smca.errors import InputError

from .graph import INPUTS

_LARGEST = 2 << 30
"""Bytes that an ONNX file may have; more needs a second file beside it."""


def import_onnx() -> tuple[ModuleType, ModuleType]:
    """``onnx`` and ``onnxruntime``, which are optional.

    Raises:
        InputError: if one of what writing and checking a file takes is not installed.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - PyTorch's exporter needs it
    except ImportError as error:
        raise InputError(
            f"export to ONNX needs {error.name}, which is not installed; pip install 'smca[export]'"
        ) from error
    return onnx, onnxruntime


def to_onnx(
    program: torch.export.ExportedProgram,
    output_names: tuple[str, ...],
    description: Mapping[str, str],
) -> Any:
    """An ``onnx.ModelProto`` of a traced graph, constants folded.

    Args:
        program: of a :class:`DetectionGraph`.
        output_names: of the graph.
        description: becomes its metadata.

    Raises:
        InputError: if it is larger than an ONNX file can be.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            exported = torch.onnx.export(
                program,
                (),
                input_names=list(INPUTS),
                output_names=list(output_names),
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        finally:
            logger.setLevel(level)
    model = exported.model_proto
    if model.ByteSize() > _LARGEST:
        raise InputError(f"the model has {model.ByteSize() / 1e9:.1f} GB, ONNX files 2 at most")
    _strip(model)
    _name_axes(model)
    describe(model, description)
    return model


def describe(model: Any, description: Mapping[str, str]) -> None:
    """Make it the metadata of an ``onnx.ModelProto``, in place of what tools left there."""
    del model.metadata_props[:]
    for key, value in description.items():
        model.metadata_props.add(key=key, value=value)


def to_float16(model: Any) -> Any:
    """The same with weights and computation in half precision; inputs and outputs stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        # Of weights below what half precision can say, which become zero.
        warnings.simplefilter("ignore")
        return convert_float_to_float16(model, keep_io_types=True)


def to_int8(model: Any, path: Path) -> None:
    """Write the same with the weights of matrix products in 8 bits, their inputs quantised as they come.

    Convolutions stay as they are: on a CPU their dynamic quantisation is slower, and costs precision.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    finally:
        logger.setLevel(level)


class Session:
    """An ONNX file in onnxruntime on a CPU: takes images and sizes, gives outputs by name."""

    def __init__(self, path: Path, *, threads: int | None = None):
        """
        Args:
            path: the file.
            threads: of an operator; None leaves it to onnxruntime.
        """
        _, onnxruntime = import_onnx()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.output_names = [output.name for output in self._session.get_outputs()]
        self.description = dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """(B, 3, H, W) float32 and (B, 2) int64 -> outputs by name."""
        values = self._session.run(None, dict(zip(INPUTS, (images, sizes), strict=True)))
        return dict(zip(self.output_names, values, strict=True))


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Metadata holds text only: words as they are, all else as json."""
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }


def _strip(model: Any) -> None:
    """Forget where in the Python code each operator comes from, which is longer than the graph."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]


def _name_axes(model: Any) -> None:
    """PyTorch names them by numbers."""
    images = model.graph.input[0].type.tensor_type.shape.dim
    names = {images[0].dim_param: "batch", images[2].dim_param: "height"}
    names[images[3].dim_param] = "width"
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in names:
                axis.dim_param = names[axis.dim_param]
