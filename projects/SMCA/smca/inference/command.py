"""The command ``smca-predict``."""

import argparse
import contextlib
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from smca.text import printable

from .coco_ids import CocoIds
from .device import PRECISIONS
from .image_file import MAX_PIXELS
from .output_names import OutputNames
from .prediction_run import PredictionRun
from .predictor import Predictor
from .results_file import CsvResults, JsonResults, Record, ResultsFile, class_name
from .sources import Sources, find_sources, is_video

ALL_DONE, SOME_FAILED, NOTHING_DONE, INTERRUPTED = 0, 1, 2, 130

_DESCRIPTION = """\
Detect objects in images and videos with a trained model.

    smca-predict --weights model.pth photo.jpg                     print what is found
    smca-predict --weights model.pth photos --output found         draw it: found/*.jpg
    smca-predict --weights model.pth clip.mp4 --output found --csv clip.csv
    smca-predict --weights model.pth val2017 --threshold 0 --json results.json --coco-json instances_val2017.json
"""
_EPILOG = """\
An input that cannot be read is named and passed over. Exit status: 0 if all inputs were predicted, 1 if some were, 2 if
none was or the arguments are wrong. After Ctrl-C the files hold what was done so far.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smca-predict",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="image or video files, folders, or patterns such as 'a/**/*.jpg'",
    )
    parser.add_argument(
        "--camera", type=int, metavar="N", help="a camera by its number, until Ctrl-C"
    )
    parser.add_argument(
        "--recursive", "-r", action="store_true", help="take the folders below a folder, too"
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help="a checkpoint, or smca://NAME of a published one",
    )
    model.add_argument(
        "--config-file",
        metavar="CONFIG",
        help="name in the model zoo or .py file, for a checkpoint that does not describe its model",
    )
    model.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 (default: cuda if there is one)"
    )
    model.add_argument("--precision", default="float32", choices=tuple(PRECISIONS))
    model.add_argument(
        "--batch-size",
        type=int,
        default=8,
        metavar="N",
        help="most images at a time (default: %(default)s)",
    )
    found = parser.add_argument_group("detections")
    found.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="T",
        help="lowest score (default: %(default)s)",
    )
    found.add_argument(
        "--max-detections", type=int, metavar="N", help="most per image (default: as in the config)"
    )
    found.add_argument(
        "--max-pixels", type=int, default=MAX_PIXELS, metavar="N",
        help="refuse image files that claim more pixels (default: %(default)s)",
    )  # fmt: skip
    found.add_argument(
        "--max-frames", type=int, metavar="N", help="most frames of a video or camera"
    )
    results = parser.add_argument_group("results (without any they are printed)")
    results.add_argument("--output", metavar="DIR", help="annotated images and videos")
    results.add_argument(
        "--json",
        metavar="FILE",
        help="COCO results; images are numbered from 0, with their file_name, classes from 0",
    )
    results.add_argument(
        "--coco-json",
        metavar="FILE",
        help="annotation file whose image and category ids --json has instead",
    )
    results.add_argument("--csv", metavar="FILE", help="a line per detection")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.inputs and args.camera is None:
        parser.error("name an image, a video, a folder or a camera")
    try:
        sources = _find(args)
        predictor = _make_predictor(args)
        ids = CocoIds.from_file(args.coco_json, predictor.class_names) if args.coco_json else None
        return _predict(args, sources, predictor, ids)
    except (ValueError, OSError) as error:
        _complain(str(error))
        return NOTHING_DONE
    except torch.OutOfMemoryError:
        _complain(
            f"{args.device} has too little memory; use a smaller --batch-size, or --device cpu"
        )
        return SOME_FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


class PrintedResults:
    """Detections as lines of text, for people."""

    def __init__(self, class_names: list[str]):
        self._class_names = class_names

    def add(self, record: Record) -> None:
        frame = "" if record.frame is None else f" frame {record.frame}"
        _tell(f"{record.file}{frame}: {len(record.instances)} found")
        for box, class_id, score in record.rows():
            corners = " ".join(f"{value:.1f}" for value in box)
            _tell(f"  {class_name(class_id, self._class_names)} {score:.2f}  {corners}")


def _find(args: argparse.Namespace) -> Sources:
    """The inputs, after a look at whether the results can be written."""
    output = Path(args.output) if args.output else None
    sources = find_sources(args.inputs, recursive=args.recursive, except_below=output)
    if args.max_frames is not None and args.max_frames < 1:
        raise ValueError(f"--max-frames is {args.max_frames}, it must be at least 1")
    if args.coco_json and not args.json:
        raise ValueError("--coco-json has an effect on --json only; name that file, too")
    if args.coco_json and (args.camera is not None or any(map(is_video, sources.files))):
        raise ValueError("--coco-json is for images; predict videos without it")
    kept = {path.resolve() for path in sources.files}
    kept |= {Path(p).resolve() for p in (args.weights, args.config_file, args.coco_json) if p}
    for option, name in (("--json", args.json), ("--csv", args.csv)):
        if not name:
            continue
        path = Path(name).resolve()
        if path in kept:
            raise ValueError(
                f"{option} {name} would overwrite a file that is used; name another one"
            )
        if path.is_dir():
            raise ValueError(f"{option} {name} is a folder; name a file")
        kept.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
    if output is not None:
        if output.exists() and not output.is_dir():
            raise ValueError(f"--output {output} is a file; name a folder")
        output.mkdir(parents=True, exist_ok=True)
    return sources


def _make_predictor(args: argparse.Namespace) -> Predictor:
    options = {
        "device": args.device,
        "precision": args.precision,
        "threshold": args.threshold,
        # A camera's frames are shown when they come.
        "batch_size": 1 if args.camera is not None else args.batch_size,
        "max_detections": args.max_detections,
        "max_pixels": args.max_pixels,
    }
    if args.config_file:
        return Predictor.from_config(args.config_file, args.weights, **options)
    return Predictor.from_checkpoint(args.weights, **options)


def _predict(
    args: argparse.Namespace, sources: Sources, predictor: Predictor, ids: CocoIds | None
) -> int:
    names = None
    if args.output:
        names = OutputNames(folder=Path(args.output), inputs=sources.files)
    with contextlib.ExitStack() as stack:
        results: list[ResultsFile | PrintedResults] = []
        if args.json:
            results.append(stack.enter_context(JsonResults(Path(args.json), ids)))
        if args.csv:
            results.append(stack.enter_context(CsvResults(Path(args.csv), predictor.class_names)))
        if not results and names is None:
            results.append(PrintedResults(predictor.class_names))
        run = PredictionRun(
            predictor=predictor,
            results=results,
            names=names,
            ids=ids,
            max_frames=args.max_frames,
            tell=_tell,
            complain=_complain,
        )
        for sentence in sources.problems:
            run.problem(sentence)
        status = _run(run, args, sources)
    _tell(_summary(args, run))
    if status is not None:
        return status
    if not run.num_images + run.num_frames:
        return NOTHING_DONE
    return SOME_FAILED if run.num_problems else ALL_DONE


def _run(run: PredictionRun, args: argparse.Namespace, sources: Sources) -> int | None:
    """The status of an interruption; that is how a camera ends."""
    try:
        run.predict_files(sources.files)
    except KeyboardInterrupt:
        _complain("interrupted; the results so far are kept")
        return INTERRUPTED
    if args.camera is not None:
        with contextlib.suppress(KeyboardInterrupt):
            run.predict_video(args.camera)
    return None


def _summary(args: argparse.Namespace, run: PredictionRun) -> str:
    done = [f"{run.num_images} images"] if run.num_images or not run.num_frames else []
    done += [f"{run.num_frames} frames"] if run.num_frames else []
    places = [place for place in (args.output, args.json, args.csv) if place]
    where = f" in {', '.join(places)}" if places else ""
    problems = f"; {run.num_problems} problems" if run.num_problems else ""
    return f"{' and '.join(done)}, {run.num_detections} detections{where}{problems}"


def _tell(line: str) -> None:
    tqdm.write(printable(line, sys.stdout.encoding or "utf-8"), file=sys.stdout)


def _complain(sentence: str) -> None:
    tqdm.write(
        f"smca-predict: {printable(sentence, sys.stderr.encoding or 'utf-8')}", file=sys.stderr
    )
