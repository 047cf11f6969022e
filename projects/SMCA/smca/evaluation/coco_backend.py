"""The implementations of COCO evaluation, and which of them is usable here."""

import importlib

from pycocotools.cocoeval import COCOeval

from smca.errors import InputError

BACKENDS = ("detectron2", "faster_coco_eval", "pycocotools")
"""Names of the implementations, the preferred one first."""

_HOW_TO_GET = {
    "detectron2": "Detectron2 was installed without its compiled operators",
    "faster_coco_eval": "install it with `pip install faster-coco-eval`",
}


def resolve_backend(backend: str = "auto") -> tuple[str, type]:
    """Find an implementation of COCO evaluation.

    Args:
        backend: one of ``BACKENDS``, or "auto" for the first of them that is usable here.

    Returns:
        Its name, and a class with the interface of pycocotools' ``COCOeval``.

    Raises:
        InputError: the name is unknown, or the named implementation is not usable here.
    """
    if backend == "auto":
        found = ((name, _load_backend(name)) for name in BACKENDS)
        return next((name, cls) for name, cls in found if cls is not None)
    if backend not in BACKENDS:
        raise InputError(
            f"COCO evaluation backend '{backend}' is unknown; choose from "
            f"{', '.join(('auto', *BACKENDS))}."
        )
    cls = _load_backend(backend)
    if cls is None:
        raise InputError(
            f"COCO evaluation backend '{backend}' is not usable here "
            f"({_HOW_TO_GET[backend]}); backend='auto' takes the best one that is."
        )
    return backend, cls


def _load_backend(name: str) -> type | None:
    if name == "pycocotools":
        return COCOeval
    try:
        if name == "faster_coco_eval":
            return importlib.import_module("faster_coco_eval").COCOeval_faster
        compiled = importlib.import_module("detectron2._C")
        # Tried on no images, for builds without C++ may have a stand-in that raises when called.
        compiled.COCOevalEvaluateImages([], 100, [], [], [], [])
        return importlib.import_module("detectron2.evaluation.fast_eval_api").COCOeval_opt
    except Exception:
        # Not only ImportError: such a stand-in raises what it likes.
        return None
