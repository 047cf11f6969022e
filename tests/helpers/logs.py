"""Detectron2's loggers, which are set up once per process and directory."""

import contextlib
import logging
from collections.abc import Iterator

from detectron2.utils import logger as detectron2_logger


@contextlib.contextmanager
def logging_as_before() -> Iterator[None]:
    """Undo what a run does to the loggers, so that the next one may set them up again."""
    before = {}
    for name in ("detectron2", "fvcore", "smca"):
        found = logging.getLogger(name)
        before[name] = (list(found.handlers), found.level, found.propagate)
    try:
        yield
    finally:
        for name, (handlers, level, propagate) in before.items():
            found = logging.getLogger(name)
            for handler in set(found.handlers) - set(handlers):
                handler.close()
            found.handlers[:] = handlers
            found.setLevel(level)
            found.propagate = propagate
        for function in (detectron2_logger.setup_logger, detectron2_logger._cached_log_stream):
            function.cache_clear()
