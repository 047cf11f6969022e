"""The command ``smca-attention``."""

import argparse
import os
import sys
from pathlib import Path

from PIL import Image

from smca.data.image_file import read_image
from smca.errors import InputError
from smca.text import class_name
from smca.visualization.boxes import save_png

from .figure import draw_heads, draw_models
from .models import NamedModel, load_models
from .objects import Seen, look_at_image
from .page import SeenImage, write_attention_page

_DESCRIPTION = """\
Shows where the queries of detectors look: per layer, head and scale the prior, the attention before and after it, and
sampling points. The same objects of an image, for one checkpoint or several side by side.

    smca-attention photo.jpg --weights model.pth
    smca-attention photo.jpg --weights detr.pth smca.pth deformable.pth --names DETR SMCA Deformable
    smca-attention photo.jpg --weights released.pth --config-file smca_single_scale_r50_50ep --at 0.4,0.6

Written to --output: attention.html, one page without anything beside it, and per object a picture of all models and
one of each model's heads.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smca-attention",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # fmt: off
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="image files")
    add("--weights", nargs="+", required=True, metavar="FILE",
        help="checkpoints, their URLs, or smca://NAME; objects are those that the first one finds")
    add("--config-file", nargs="+", default=[], metavar="CONFIG",
        help="for each checkpoint a name in the model zoo or a .py file, '-' where it describes its model")
    add("--names", nargs="+", default=[], metavar="NAME", help="what to call each model")
    add("--output", default="attention", metavar="DIR", help="default: %(default)s")
    add("--objects", type=int, default=4, metavar="N", help="most of an image (default: %(default)s)")
    add("--threshold", type=float, default=0.3, metavar="T", help="lowest score (default: %(default)s)")
    add("--at", action="append", default=[], type=_point, metavar="X,Y",
        help="instead, the object at a point in shares of the image, such as 0.5,0.5; may be repeated")
    add("--layer", type=int, metavar="L", help="layer of the pictures of heads, from 1 (default: the last)")
    add("--device", default="auto", help="cpu, cuda, cuda:1 (default: cuda if there is one)")
    # fmt: on
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = build_parser()
    args = parser.parse_intermixed_args(argv)
    if not args.images:
        parser.error("name an image")
    try:
        _run(args)
    except (InputError, OSError) as error:
        print(f"smca-attention: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _run(args: argparse.Namespace) -> None:
    if args.objects < 1:
        raise InputError(f"--objects is {args.objects}, it must be at least 1")
    if args.layer is not None and args.layer < 1:
        raise InputError(f"--layer is {args.layer}, layers are numbered from 1")
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    pixels = [read_image(path) for path in args.images]
    models = load_models(args.weights, args.config_file, args.names, device=args.device)
    predictors = [model.predictor for model in models]
    images = []
    for path, image in zip(args.images, pixels, strict=True):
        objects = look_at_image(
            predictors, image, count=args.objects, threshold=args.threshold, points=args.at
        )
        picture = Image.fromarray(image[:, :, ::-1])
        images.append(SeenImage(os.path.basename(path), picture, objects))
    page = output / "attention.html"
    write_attention_page(page, images, models)
    print(page)
    number = 0
    for image in images:
        for seen in image.objects:
            number += 1
            _write_pictures(output, number, image.picture, seen, models, args.layer)


def _write_pictures(
    output: Path,
    number: int,
    picture: Image.Image,
    seen: list[Seen],
    models: list[NamedModel],
    layer: int | None,
) -> None:
    titles = [
        f"{class_name(one.class_id, model.predictor.class_names)} {one.score:.2f}"
        + ("" if one.is_found else ", not this object")
        for one, model in zip(seen, models, strict=True)
    ]
    path = output / f"object_{number}.png"
    save_png(draw_models(picture, seen, [model.name for model in models], titles), path)
    print(path)
    for index, (one, model) in enumerate(zip(seen, models, strict=True), 1):
        last = len(one.view.layers)
        path = output / f"object_{number}_model_{index}.png"
        save_png(
            draw_heads(picture, one, model.name, layer_number=min(layer or last, last) - 1), path
        )
        print(path)


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no point such as 0.5,0.5") from error
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise argparse.ArgumentTypeError(f"{text!r} must be in [0, 1], shares of the image")
    return x, y


if __name__ == "__main__":
    sys.exit(main())
