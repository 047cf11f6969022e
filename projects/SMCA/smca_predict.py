"""`smca-predict` up to where it needs PyTorch.

Not a part of the package, whose import registers the model with Detectron2 and takes seconds: `--help`, a mistyped
option and Ctrl-C should not wait for it, and how threads wait is read when PyTorch comes.
"""

import gc
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    # There is nothing to keep yet; where there is, the command has its own handlers.
    _on_signals(lambda number, _frame: os._exit(128 + number))
    arguments = Path(__file__).with_name("smca") / "inference" / "command" / "arguments.py"
    args = runpy.run_path(str(arguments))["parse_arguments"](argv)
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
