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
    # fmt: off
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="image or video files, folders, or patterns such as 'a/**/*.jpg'")
    add("--camera", type=int, metavar="N", help="a camera by its number, until Ctrl-C")
    add("--recursive", "-r", action="store_true", help="take the folders below a folder, too")

    add = parser.add_argument_group("model").add_argument
    add("--weights", required=True, metavar="FILE", help="a checkpoint, its URL, or smca://NAME of a published one")
    add("--config-file", metavar="CONFIG",
        help="name in the model zoo or .py file, for a checkpoint that does not describe its model")
    add("--device", default="auto", help="cpu, cuda, cuda:1 (default: cuda if there is one)")
    add("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    add("--compile", action="store_true",
        help="torch.compile, of SMCA and DETR models: faster in bfloat16, after about a minute at the first image")
    add("--batch-size", type=int, default=8, metavar="N", help="most images at a time (default: %(default)s)")

    add = parser.add_argument_group("detections").add_argument
    add("--threshold", type=float, default=0.5, metavar="T", help="lowest score (default: %(default)s)")
    add("--max-detections", type=int, metavar="N", help="most per image (default: as in the config)")
    add("--max-pixels", type=int, default=100_000_000, metavar="N",
        help="refuse image files that claim more pixels (default: %(default)s)")
    add("--max-frames", type=int, metavar="N", help="most frames of a video or camera")

    add = parser.add_argument_group("results (without any they are printed)").add_argument
    add("--output", metavar="DIR", help="annotated images and videos, in folders as those below an input folder")
    add("--json", metavar="FILE",
        help="COCO results; images are numbered from 0, with their file_name, classes from 0. Beside results.json, "
        "results.images.json lists all images, those without detections too. '-' is standard output")
    add("--coco-json", metavar="FILE", help="annotation file whose image and category ids --json has instead")
    add("--csv", metavar="FILE",
        help="a line per detection, and one with empty cells per image without; '-' is standard output")
    # fmt: on
    return parser


def _let_threads_sleep() -> None:
    """Threads that spin while they wait take the time of those they wait for, where a machine is busy.

    Before PyTorch is imported, unless something is set. GNU's threads spin for a moment of 0.1 ms: where they sleep at
    once a quiet machine was a quarter slower, where they spin for as long as by default a busy one took twice as long.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ["GOMP_SPINCOUNT"] = "3000"


def _on_signals(handler: Callable | signal.Handlers) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signum = getattr(signal, name, None)
        # What the process was started to ignore (`nohup`) stays ignored.
        if signum is not None and signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, handler)


if __name__ == "__main__":
    sys.exit(main())
