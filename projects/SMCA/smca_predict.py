"""`smca-predict` up to where it needs PyTorch.

Not a part of the package, whose import registers the model with Detectron2 and takes seconds: `--help`, a mistyped
option and Ctrl-C should not wait for it, and how threads wait is read when PyTorch comes.
"""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

_DESCRIPTION = """\
Detect objects in images and videos with a trained model.

    smca-predict --weights model.pth photo.jpg                     print what is found
    smca-predict --weights model.pth photos --output found         draw it: found/*.jpg
    smca-predict --weights model.pth clip.mp4 --output found --csv clip.csv
    smca-predict --weights model.pth photos --json - | jq length   results on standard output
    smca-predict --weights model.pth val2017 --threshold 0 --json results.json --coco-json instances_val2017.json
"""
_EPILOG = """\
An input that cannot be read is named and passed over. Exit status: 0 if all inputs were predicted, 1 if some were, 2 if
none was, results cannot be written or the arguments are wrong. After Ctrl-C (130), SIGTERM (143) or SIGHUP (129) the
files hold what was done so far.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    # There is nothing to keep yet; where there is, the command has its own handlers.
    _on_signals(lambda number, _frame: os._exit(128 + number))
    args = parse_arguments(argv)
    _let_threads_sleep()
    # Nothing of what is imported is thrown away, and looking for it takes a quarter of the time.
    gc.disable()
    from smca.inference.command.main import run

    gc.freeze()
    gc.enable()
    status = run(args)
    # All is done, and the status should say how.
    _on_signals(signal.SIG_IGN)
    return status


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Ends the process with status 2 and a sentence if something is wrong with them."""
    parser = build_parser()
    # Inputs may stand before and after options.
    args = parser.parse_intermixed_args(argv)
    if not args.inputs and args.camera is None:
        parser.error("name an image, a video, a folder or a camera")
    return args


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
    _add_model_options(parser.add_argument_group("model"))
    _add_detection_options(parser.add_argument_group("detections"))
    _add_result_options(parser.add_argument_group("results (without any they are printed)"))
    return parser


def _add_model_options(model: argparse._ArgumentGroup) -> None:
    model.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help="a checkpoint, its URL, or smca://NAME of a published one",
    )
    model.add_argument(
        "--config-file",
        metavar="CONFIG",
        help="name in the model zoo or .py file, for a checkpoint that does not describe its model",
    )
    model.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 (default: cuda if there is one)"
    )
    model.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    model.add_argument(
        "--batch-size",
        type=int,
        default=8,
        metavar="N",
        help="most images at a time (default: %(default)s)",
    )


def _add_detection_options(found: argparse._ArgumentGroup) -> None:
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
        "--max-pixels", type=int, default=100_000_000, metavar="N",
        help="refuse image files that claim more pixels (default: %(default)s)",
    )  # fmt: skip
    found.add_argument(
        "--max-frames", type=int, metavar="N", help="most frames of a video or camera"
    )


def _add_result_options(results: argparse._ArgumentGroup) -> None:
    results.add_argument(
        "--output",
        metavar="DIR",
        help="annotated images and videos, in folders as those below an input folder",
    )
    results.add_argument(
        "--json",
        metavar="FILE",
        help="COCO results; images are numbered from 0, with their file_name, classes from 0. Beside results.json, "
        "results.images.json lists all images, those without detections too. '-' is standard output",
    )
    results.add_argument(
        "--coco-json",
        metavar="FILE",
        help="annotation file whose image and category ids --json has instead",
    )
    results.add_argument(
        "--csv",
        metavar="FILE",
        help="a line per detection, and one with empty cells per image without; '-' is standard output",
    )


def _let_threads_sleep() -> None:
    """Threads that spin while they wait take the time of those they wait for, where a machine is busy."""
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _on_signals(handler: Callable | signal.Handlers) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signum = getattr(signal, name, None)
        # What the process was started to ignore (`nohup`) stays ignored.
        if signum is not None and signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, handler)


if __name__ == "__main__":
    sys.exit(main())
