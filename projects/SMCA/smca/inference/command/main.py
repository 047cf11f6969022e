"""The command ``smca-predict``."""

import argparse
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from smca.errors import InputError
from smca.inference.predictor import Predictor
from smca.text import class_name
from smca.whole_file import is_written_in_place

from .coco_ids import CocoIds
from .console import STDOUT, Console, fill_closed_streams, flush_stdout
from .freed_memory import keep_freed_memory
from .interruption import Interruption
from .output_names import OutputNames
from .prediction_run import PredictionRun
from .results_file import (
    CsvResults,
    ImagesJson,
    JsonResults,
    Record,
    ResultsFile,
)
from .sources import Sources, find_sources, is_video
from .video import check_camera

ALL_DONE, SOME_FAILED, NOTHING_DONE = 0, 1, 2
STDOUT_CLOSED = 128 + getattr(signal, "SIGPIPE", 13)
_STDOUT_NAMES = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def run(args: argparse.Namespace) -> int:
    """Runs what ``smca_predict.parse_arguments`` has read; returns the exit status."""
    fill_closed_streams()
    console = Console(results_on_stdout=_is_stdout(args.json) or _is_stdout(args.csv))
    with Interruption() as interruption:
        try:
            sources = _find(args)
            keep_freed_memory()
            predictor = _make_predictor(args)
            if args.compile:
                console.tell("the model is compiled at the first image, which takes about a minute")
            ids = (
                CocoIds.from_file(args.coco_json, predictor.class_names) if args.coco_json else None
            )
            status = _predict(args, sources, predictor, ids, console, interruption)
            flush_stdout()
            return status
        except BrokenPipeError as error:
            if error.filename != STDOUT:
                console.complain(_sentence(error))
                return NOTHING_DONE
            # Who read it has seen enough.
            return _without_stdout(STDOUT_CLOSED)
        except (InputError, OSError) as error:
            console.complain(_sentence(error))
            return _without_stdout(NOTHING_DONE)
        except torch.OutOfMemoryError:
            console.complain(
                f"{args.device} has too little memory; use a smaller --batch-size, or --device cpu"
            )
            return SOME_FAILED
        except KeyboardInterrupt:
            return interruption.status


class PrintedResults:
    """Detections as lines of text, for people."""

    def __init__(self, class_names: list[str], console: Console):
        self._class_names = class_names
        self._print = console.print_result

    def add(self, record: Record) -> None:
        frame = "" if record.frame is None else f" frame {record.frame}"
        self._print(f"{record.file}{frame}: {len(record.instances)} found")
        for box, class_id, score in record.rows():
            corners = " ".join(f"{value:.1f}" for value in box)
            self._print(f"  {class_name(class_id, self._class_names)} {score:.2f}  {corners}")


def _find(args: argparse.Namespace) -> Sources:
    """The inputs, after a look at whether the results can be written."""
    for option in ("weights", "config_file", "output", "json", "csv", "coco_json"):
        # Of a shell's variable that is not set.
        if getattr(args, option) == "":
            raise InputError(f"--{option.replace('_', '-')} is empty; give it a name")
    output = Path(args.output) if args.output else None
    sources = find_sources(args.inputs, recursive=args.recursive, except_below=output)
    for option in ("max_frames", "max_detections"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise InputError(f"--{option.replace('_', '-')} is {value}, it must be at least 1")
    if args.camera is not None:
        check_camera(args.camera)
    if args.coco_json and not args.json:
        raise InputError("--coco-json has an effect on --json only; name that file, too")
    if args.coco_json and (args.camera is not None or any(map(is_video, sources.files))):
        raise InputError("--coco-json is for images; predict videos without it")
    _check_stdout(args)
    kept = {os.path.realpath(path) for path in sources.files}
    kept |= {os.path.realpath(p) for p in (args.weights, args.config_file, args.coco_json) if p}
    for option, path in _result_files(args):
        real = os.path.realpath(path)
        if real in kept:
            raise InputError(
                f"{option} {path} would overwrite a file that is used; name another one"
            )
        if os.path.isdir(path):
            raise InputError(f"{option} {path} is a folder; name a file")
        _check_length(path)
        kept.add(real)
        path.parent.mkdir(parents=True, exist_ok=True)
    if output is not None:
        if output.exists() and not output.is_dir():
            raise InputError(f"--output {output} is a file; name a folder")
        output.mkdir(parents=True, exist_ok=True)
    return sources


def _check_length(path: Path) -> None:
    """Now: the file gets its name when all is predicted."""
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise


def _check_stdout(args: argparse.Namespace) -> None:
    if _is_stdout(args.json) and _is_stdout(args.csv):
        raise InputError("--json and --csv cannot both be standard output; name a file for one")
    is_needed = _is_stdout(args.json) or _is_stdout(args.csv)
    is_needed |= not (args.json or args.csv or args.output)
    if is_needed and sys.stdout is None:
        raise InputError(f"{STDOUT} is closed; name a file with --json, --csv or --output")


def _is_stdout(name: str | None) -> bool:
    return name in _STDOUT_NAMES


def _result_files(args: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Options and files that will be put in their place."""
    for option, name in (("--json", args.json), ("--csv", args.csv)):
        if not name or _is_stdout(name) or (is_written_in_place(name) and not os.path.isdir(name)):
            continue
        yield option, Path(name)
        if option == "--json":
            yield "--json's list of images", ImagesJson.beside(Path(name))


def _make_predictor(args: argparse.Namespace) -> Predictor:
    options = {
        "device": args.device,
        "precision": args.precision,
        "threshold": args.threshold,
        # A camera's frames are shown when they come.
        "batch_size": 1 if args.camera is not None else args.batch_size,
        "max_detections": args.max_detections,
        "max_pixels": args.max_pixels,
        "compile": args.compile,
    }
    if args.config_file:
        return Predictor.from_config(args.config_file, args.weights, **options)
    return Predictor.from_checkpoint(args.weights, **options)


def _predict(
    args: argparse.Namespace,
    sources: Sources,
    predictor: Predictor,
    ids: CocoIds | None,
    console: Console,
    interruption: Interruption,
) -> int:
    names = None
    if args.output:
        names = OutputNames(folder=Path(args.output), inputs=sources.files, below=sources.below)
    with contextlib.ExitStack() as stack:
        results: list[ResultsFile | PrintedResults] = [
            stack.enter_context(file) for file in _open_results(args, predictor, ids)
        ]
        if not results and names is None:
            results.append(PrintedResults(predictor.class_names, console))
        prediction = PredictionRun(
            predictor=predictor,
            results=results,
            names=names,
            ids=ids,
            max_frames=args.max_frames,
            tell=console.tell,
            complain=console.complain,
            whole=interruption.held,
        )
        for sentence in sources.problems:
            prediction.problem(sentence)
        status = _run(prediction, args, sources, console, interruption)
    console.tell(_summary(args, prediction))
    if status is not None:
        return status
    if not prediction.num_images + prediction.num_frames:
        return NOTHING_DONE
    return SOME_FAILED if prediction.num_problems else ALL_DONE


def _open_results(
    args: argparse.Namespace, predictor: Predictor, ids: CocoIds | None
) -> Iterator[ResultsFile]:
    names, class_ids = predictor.class_names, predictor.class_ids
    if args.json:
        path = None if _is_stdout(args.json) else Path(args.json)
        yield JsonResults(path, ids, class_ids)
        if path is not None and not is_written_in_place(path):
            yield ImagesJson(ImagesJson.beside(path), names, ids, class_ids)
    if args.csv:
        yield CsvResults(None if _is_stdout(args.csv) else Path(args.csv), names)


def _run(
    prediction: PredictionRun,
    args: argparse.Namespace,
    sources: Sources,
    console: Console,
    interruption: Interruption,
) -> int | None:
    """The status of an interruption; Ctrl-C is how a camera ends."""
    is_camera = False
    try:
        prediction.predict_files(sources.files)
        if args.camera is not None:
            is_camera = True
            prediction.predict_video(args.camera)
        interruption.hold()
    except KeyboardInterrupt:
        if is_camera and interruption.signum == signal.SIGINT:
            return None
        console.complain("interrupted; the results so far are kept")
        return interruption.status
    finally:
        interruption.hold()
    return None


def _summary(args: argparse.Namespace, run: PredictionRun) -> str:
    done = [f"{run.num_images} images"] if run.num_images or not run.num_frames else []
    done += [f"{run.num_frames} frames"] if run.num_frames else []
    empty = f" ({run.num_empty} without any)" if run.num_empty else ""
    names = (args.output, args.json, args.csv)
    places = [name for name in names if name and not _is_stdout(name)]
    where = f" in {', '.join(places)}" if places else ""
    problems = f"; {run.num_problems} problems" if run.num_problems else ""
    return f"{' and '.join(done)}, {run.num_detections} detections{empty}{where}{problems}"


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: it cannot be written ({error.strerror})"
    return str(error)


def _without_stdout(status: int) -> int:
    """The status, after what could not be printed is given up."""
    with contextlib.suppress(OSError):
        flush_stdout()
    return status
