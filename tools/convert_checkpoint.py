#!/usr/bin/env python
"""Converts checkpoint files between this project and published ones.

    python tools/convert_checkpoint.py detr-r50.pth out.pth --config detr_r50_500ep
    python tools/convert_checkpoint.py r50_deformable_detr.pth out.pth --config deformable_detr_r50_50ep
    python tools/convert_checkpoint.py resnet50.pth backbone.pth --config smca_r50_50ep
    python tools/convert_checkpoint.py model_final.pth out.pth --to-released --class-columns 92

IN is a released DETR (R50, R101, DC5), Deformable DETR or single-scale SMCA, a torchvision ResNet (its
tensors become those of the backbone), or a detector trained here. OUT holds {"model": state dict}, which
train.init_checkpoint, Detectron2's checkpointer or, with --to-released, the released code loads.
A tensor that fits nowhere is an error that names it; what is left out is printed.
"""

import argparse
import sys

from smca.checkpoint.conversion.class_columns import ABSENT_BIAS, PUBLISHED_COLUMNS
from smca.errors import InputError
from smca.model_zoo.convert_file import convert_file


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source",
        metavar="IN",
        help="a .pth, .pt or .safetensors file, its URL, or smca:// and a published name",
    )
    parser.add_argument("target", metavar="OUT", help="the .pth file to write")
    parser.add_argument(
        "--config",
        metavar="NAME",
        help="check that the tensors fit this experiment of the model zoo exactly (of IN when "
        "converting back, of the backbone for a ResNet)",
    )
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="K",
        help="classes of our model: 80 keeps COCO's categories of 91 or 92 columns, in contiguous "
        "order; 91 or 92 keeps all columns (default: the config's, else 80 of 91 or 92, or all)",
    )
    parser.add_argument(
        "--no-object-class",
        choices=("yes", "no"),
        help='whether the last column is "no object" (default: as in the config, else yes for DETR '
        "and no for SMCA)",
    )
    parser.add_argument(
        "--to-released", action="store_true", help="from this project's names to the released ones"
    )
    parser.add_argument(
        "--class-columns",
        type=int,
        choices=PUBLISHED_COLUMNS,
        help="spread the 80 contiguous classes to COCO's category ids; columns without a class get "
        f"zero weights and a bias of {ABSENT_BIAS:g}, so that they are never predicted",
    )
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        conversion = convert_file(
            args.source,
            args.target,
            config=args.config,
            num_classes=args.num_classes,
            no_object_class=None if args.no_object_class is None else args.no_object_class == "yes",
            to_released=args.to_released,
            class_columns=args.class_columns,
            overwrite=args.force,
        )
    except (InputError, OSError) as error:
        print(f"convert_checkpoint.py: {error}", file=sys.stderr)
        return 1
    print(f"{args.target}: {len(conversion.state_dict)} tensors from a {conversion.kind}.")
    if conversion.left_out:
        print(f"Left out, a backbone has no classifier: {', '.join(conversion.left_out)}.")
    if count := conversion.batch_counters:
        print(f"Left out, frozen norms count no batches: {count} tensors num_batches_tracked.")
    if args.config:
        print(f"Names and shapes are those of {args.config}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
