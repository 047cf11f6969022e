"""The log of a run, and what is said before there is one."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from logging.handlers import BufferingHandler

from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from .run_settings import as_text

LOGGERS = ("fvcore", "detectron2", "smca")


@contextlib.contextmanager
def held_back() -> Iterator[list[logging.LogRecord]]:
    """Keep what is logged inside, for :func:`tell`; after an error its warnings are told at once."""
    buffer = BufferingHandler(sys.maxsize)
    logs = [logging.getLogger(name) for name in LOGGERS]
    before = [(list(log.handlers), log.level, log.propagate) for log in logs]
    for log in logs:
        log.handlers[:] = [buffer]
        log.setLevel(logging.DEBUG)
        log.propagate = False
    is_done = False
    try:
        yield buffer.buffer
        is_done = True
    finally:
        for log, (handlers, level, propagate) in zip(logs, before, strict=True):
            log.handlers[:] = handlers
            log.setLevel(level)
            log.propagate = propagate
        if not is_done:
            tell(record for record in buffer.buffer if record.levelno >= logging.WARNING)


def tell(records: Iterable[logging.LogRecord]) -> None:
    for record in records:
        logging.getLogger(record.name).handle(record)


def set_up_log(
    cfg: DictConfig,
    *,
    arguments: argparse.Namespace | None = None,
    terminal: Callable[[logging.Handler], None] | None = None,
) -> None:
    """Detectron2's loggers, to the terminal and to log.txt, and what its ``default_setup`` logs first.

    There are no escape sequences of a terminal in the config's text.

    Args:
        cfg: the experiment.
        arguments: the command's.
        terminal: changes the handler that writes to the terminal, before anything is logged.

    Raises:
        OSError: if the log cannot be written.
    """
    folder, rank = str(cfg.train.output_dir), comm.get_rank()
    # Loggers that cannot write, to a full disk say, would print a traceback for each line.
    logging.raiseExceptions = False
    for name in LOGGERS:
        for handler in setup_logger(folder, distributed_rank=rank, name=name).handlers:
            if terminal is not None and getattr(handler, "stream", None) is sys.stdout:
                terminal(handler)
    # The names under which Detectron2's own scripts log the same.
    log = logging.getLogger("detectron2")
    log.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    log.info("Environment info:\n%s", collect_env_info())
    log.info("Command line arguments: %s", arguments)
    log.info("Full config of this run:\n%s", as_text(cfg))
