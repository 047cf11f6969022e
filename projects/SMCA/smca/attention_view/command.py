"""The command ``smca-attention``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from smca.data import load_detection_dataset
from smca.data.given_dataset import register_given_dataset
from smca.data.image_file import read_image
from smca.errors import INTERRUPTED, InputError
from smca.text import printable
from smca.visualization.boxes import save_png
from smca.visualization.fonts import class_label
from smca.whole_file import replacing

from .figure import draw_heads, draw_models
from .models import NamedModel, load_models
from .objects import Seen, look_at_image
from .page import SeenImage, write_attention_page
from .survey import look_at_images, summarize

_SHOWN_OF_SURVEY = 2

_DESCRIPTION = """\
Shows where the queries of detectors look: per layer, head and scale the prior, the attention before and after it, and
sampling points. The same objects of an image, for one checkpoint or several side by side.

    smca-attention photo.jpg --weights model.pth
    smca-attention photo.jpg --weights detr.pth smca.pth deformable.pth --names DETR SMCA Deformable
    smca-attention photo.jpg --weights released.pth --config-file smca_single_scale_r50_50ep --at 0.4,0.6
    smca-attention --weights model.pth --dataset val.json --images val/
    smca-attention images/*.jpg --survey --weights detr.pth smca.pth

Written to --output: attention.html, one page without anything beside it, and per object a picture of all models and
one of each model's heads. With --dataset or --survey the page has figures over all detections, too, which are also in
survey.json; of the images of these only the first two are shown, or those that are named beside --dataset.
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
    add("--dataset", metavar="DATA",
        help="figures over this, too: a registered name, a COCO json, YOLO's data.yaml, or a folder of Pascal VOC")
    add("--images", dest="image_root", metavar="FOLDER",
        help="the folder that file names in the json are relative to (default: the json's)")
    add("--split", metavar="NAME", help="of data of YOLO or Pascal VOC (default: val)")
    add("--survey", action="store_true", help="figures over all IMAGEs, too, of which only the first are shown")
    add("--most-images", type=int, default=200, metavar="N",
        help="of them all, evenly chosen (default: %(default)s)")
    add("--layer", type=int, metavar="L", help="layer of the pictures of heads, from 1 (default: the last)")
    add("--device", default="auto", help="cpu, cuda, cuda:1 (default: cuda if there is one)")
    # fmt: on
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = build_parser()
    args = parser.parse_intermixed_args(argv)
    if not args.images and args.dataset is None:
        parser.error("name an image, or a --dataset")
    try:
        _run(args)
    except KeyboardInterrupt:
        print("smca-attention: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (InputError, OSError) as error:
        print(f"smca-attention: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    return 0


def _run(args: argparse.Namespace) -> None:
    _check(args)
    files = args.images if args.survey else []
    if args.dataset is not None:
        files = _files_of(args)
    paths = files[:_SHOWN_OF_SURVEY] if args.survey or not args.images else args.images
    pixels = [read_image(path) for path in paths]
    models = load_models(args.weights, args.config_file, args.names, device=args.device)
    _check_layer(models, args.layer)
    predictors = [model.predictor for model in models]
    images = []
    for path, image in zip(paths, pixels, strict=True):
        objects = look_at_image(
            predictors, image, count=args.objects, threshold=args.threshold, points=args.at
        )
        picture = Image.fromarray(image[:, :, ::-1])
        images.append(SeenImage(os.path.basename(path), picture, objects))
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    figures = None
    if files:
        figures = _survey(models, files, args.most_images, args.threshold)
        path = output / "survey.json"
        with replacing(path) as partial:
            partial.write_text(json.dumps(figures, indent=1), encoding="utf-8")
        print(path)
    page = output / "attention.html"
    write_attention_page(page, images, models, figures)
    print(page)
    number = 0
    for image in images:
        for seen in image.objects:
            number += 1
            _write_pictures(output, number, image.picture, seen, models, args.layer)


def _check(args: argparse.Namespace) -> None:
    for option in ("objects", "most_images"):
        value = getattr(args, option)
        if value < 1:
            raise InputError(f"--{option.replace('_', '-')} is {value}, it must be at least 1")
    if args.layer is not None and args.layer < 1:
        raise InputError(f"--layer is {args.layer}, layers are numbered from 1")
    if not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold is {args.threshold:g}, it must be between 0 and 1")
    if args.survey and args.dataset is not None:
        raise InputError(
            "--survey is for IMAGEs, and --dataset for a data set; name one of the two"
        )
    for option, value in (("--images", args.image_root), ("--split", args.split)):
        if value is not None and args.dataset is None:
            raise InputError(f"{option} goes with --dataset")
    if os.path.exists(args.output) and not os.path.isdir(args.output):
        raise InputError(f"--output {args.output} is a file; name a folder")


def _check_layer(models: Sequence[NamedModel], layer: int | None) -> None:
    for model in models:
        count = len(model.predictor.model.decoder.layers)
        if layer is not None and layer > count:
            raise InputError(f"--layer is {layer}, but {model.name} has {count} layers")


def _files_of(args: argparse.Namespace) -> list[str]:
    name = register_given_dataset(args.dataset, image_root=args.image_root, split=args.split)
    files = [record["file_name"] for record in load_detection_dataset(name)]
    if not files:
        raise InputError(f"--dataset {args.dataset} has no image")
    return files


def _survey(
    models: Sequence[NamedModel], files: list[str], most: int, threshold: float
) -> dict[str, Any]:
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]
    found = []
    for model in models:
        images = map(read_image, tqdm(chosen, desc=model.name, unit="img"))
        found.append((model.name, look_at_images(model.predictor, images, threshold=threshold)))
    return {"images": len(chosen), "threshold": threshold, "models": summarize(found)}


def _write_pictures(
    output: Path,
    number: int,
    picture: Image.Image,
    seen: list[Seen],
    models: list[NamedModel],
    layer: int | None,
) -> None:
    titles = [
        f"{class_label(one.class_id, model.predictor.class_names)} {one.score:.2f}"
        + ("" if one.is_found else ", not this object")
        for one, model in zip(seen, models, strict=True)
    ]
    path = output / f"object_{number}.png"
    save_png(draw_models(picture, seen, [model.name for model in models], titles), path)
    print(path)
    for index, (one, model) in enumerate(zip(seen, models, strict=True), 1):
        last = len(one.view.layers)
        path = output / f"object_{number}_model_{index}.png"
        save_png(draw_heads(picture, one, model.name, layer_number=(layer or last) - 1), path)
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
