#!/usr/bin/env python
"""Makes a digits data set of another size or difficulty, for example for GPUs.

    python tools/make_digits.py --name digits_large --image-size 480x640 \\
        --digit-min 16 --digit-max 200 --max-objects 20 --train-images 20000 --val-images 2000

The bundled digits_train and digits_val need no command: they are made when first used.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys

from smca.data import DigitsSpec, make_digits
from smca.data.digits.store import annotation_file, image_root
from smca.errors import InputError

_HELP = {
    "image_size": "largest size of an image, HxW or one number, pixels",
    "varied_fraction": "share of images with one side shortened",
    "min_aspect": "a shortened side is at least this share of its full length",
    "train_images": "number of training images",
    "val_images": "number of validation images",
    "digit_min": "smallest long side of a digit, pixels",
    "digit_max": "largest long side of a digit, pixels",
    "max_objects": "most digits in one image",
    "empty_fraction": "share of images without digits",
    "max_overlap": "largest intersection of two boxes over the area of the smaller",
    "max_rotation": "digits are turned by up to this many degrees",
    "max_shear": "digits are sheared by up to this share of their height",
    "max_stretch": "width and height are scaled apart by up to this factor",
    "min_brightness": "lowest brightness of a digit, 0..1",
    "max_saturation": "highest colour saturation of a digit, 0..1",
    "min_opacity": "lowest opacity of a digit, 0..1",
    "blur": "blur of the photographs, sigma in pixels (0: sharp, much harder)",
    "dim": "factor on the photographs' brightness (1: undimmed, much harder)",
    "jpeg_quality": "1..100",
    "seed": "another seed makes other images",
}


def _image_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither HxW nor one number") from None


def build_parser() -> argparse.ArgumentParser:
    """Command line with one option per field of DigitsSpec; the image size is one option."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="name of the new data set")
    parser.add_argument(
        "--root",
        default=os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")),
        help="directory of data sets (default: %(default)s)",
    )
    defaults = {field.name: field.default for field in dataclasses.fields(DigitsSpec)}
    size = (defaults.pop("image_height"), defaults.pop("image_width"))
    parser.add_argument(
        "--image-size",
        type=_image_size,
        default=size,
        help=f"{_HELP['image_size']} (default: {size[0]}x{size[1]})",
    )
    for name, default in defaults.items():
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=type(default),
            default=default,
            help=f"{_HELP[name]} (default: %(default)s)",
        )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = build_parser()
    settings = vars(parser.parse_args(argv))
    name, root = settings.pop("name"), settings.pop("root")
    height, width = settings.pop("image_size")
    try:
        spec = DigitsSpec(image_height=height, image_width=width, **settings)
    except InputError as error:
        parser.error(str(error))
    if name == "digits" and spec != DigitsSpec():
        parser.error('"digits" names the bundled data set and its settings: give another --name')
    try:
        folder = make_digits(root, spec, name)
    except (InputError, OSError) as error:
        print(f"make_digits: {error}", file=sys.stderr)
        return 1
    if name == "digits":
        print(f"{folder} is ready; importing smca registers digits_train and digits_val.")
        return 0
    print(f"{folder} is ready. Register it before training with:\n")
    print("from detectron2.data.datasets import register_coco_instances\n")
    for split in ("train", "val"):
        files = annotation_file(root, name, split), image_root(root, name, split)
        arguments = ", ".join(repr(str(os.path.abspath(file))) for file in files)
        print(f'register_coco_instances("{name}_{split}", {{}}, {arguments})')
    print(f'\nThe classes are "0".."9"; the data sets are then "{name}_train" and "{name}_val".')
    return 0


if __name__ == "__main__":
    sys.exit(main())
