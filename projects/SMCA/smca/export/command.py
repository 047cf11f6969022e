"""The command ``smca-export``."""

import argparse
import sys
from collections.abc import Sequence

from torch import nn

from smca.checkpoint import ModelInfo
from smca.errors import INTERRUPTED, InputError
from smca.inference.trained_model import load_checkpoint, load_config
from smca.text import printable

from .exporter import FORMATS, PRECISIONS, ExportReport, export_model

DONE, FAILED = 0, 2
_DEFAULT_DETECTIONS = 100

_DESCRIPTION = """\
Write a trained detector as a file that runs without this package.

    smca-export --weights model.pth --output model.onnx
    smca-export --weights model.pth --output model.onnx --detections        scores, classes, boxes in pixels, too
    smca-export --config-file detr_r50_500ep --weights detr.pth --output detr.onnx
    smca-export --weights model.pth --output model.int8.onnx --precision int8
    smca-export --weights model.pth --output model.pt2                      torch.export

The file is run beside the model on images of several sizes and in padded batches, and is only written if both give the
same. smca_runtime.py, which needs onnxruntime, numpy and Pillow, predicts with it.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smca-export",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # fmt: off
    add = parser.add_argument
    add("--weights", required=True, metavar="FILE", help="a checkpoint, its URL, or smca://NAME of a published one")
    add("--config-file", metavar="CONFIG",
        help="name in the model zoo or .py file, for a checkpoint that does not describe its model")
    add("--output", required=True, metavar="FILE", help="where to write it; a file there is replaced")
    add("--format", choices=sorted(FORMATS.values()), help="default: by the ending of --output")
    add("--detections", type=int, nargs="?", const=_DEFAULT_DETECTIONS, metavar="N",
        help="give the N best detections of an image, too (default: %(const)s)")
    add("--precision", default="float32", choices=PRECISIONS,
        help="of an ONNX file; int8 is of the weights of matrix products (default: %(default)s)")
    # fmt: on
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        model, info = load(args.weights, args.config_file)
        report = export_model(
            model,
            info,
            args.output,
            format=args.format,
            detections=args.detections,
            precision=args.precision,
        )
    except KeyboardInterrupt:
        print("smca-export: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (InputError, OSError) as error:
        print(f"smca-export: {printable(str(error))}", file=sys.stderr)
        return FAILED
    print(format_report(report))
    return DONE


def load(weights: str, config_file: str | None) -> tuple[nn.Module, ModelInfo]:
    """The model and its description.

    Raises:
        InputError: if one of the two cannot be read, or the weights are not the model's.
    """
    if config_file:
        return load_config(config_file, weights)
    return load_checkpoint(weights)


def format_report(report: ExportReport) -> str:
    """What was written, and how far it is from the model."""
    lines = [f"{printable(str(report.path))}: {report.size / 1e6:.1f} MB"]
    lines += [
        f"  {item.output}: largest difference {item.largest:.1e}, mean {item.mean:.1e}"
        for item in report.differences
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
