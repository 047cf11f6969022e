"""Detectron2's own checkpointer runs what a pickle asks for; here a file is looked at first."""

import os

from smca.checkpoint.reading.fetch import check_source, fetch_weights
from smca.checkpoint.reading.file_content import check_content
from smca.errors import InputError

_DETECTRON2 = ("detectron2://", "https://dl.fbaipublicfiles.com/detectron2/")
"""Where Detectron2's own files are."""


def check_weights(source: str) -> None:
    """Refuse ``MODEL.WEIGHTS`` that Detectron2's checkpointer, which comes next, should not read.

    A file that does not exist passes, since Detectron2 says so itself.

    Raises:
        InputError: if the file holds more than tensors, is no checkpoint or is damaged, or is one that Detectron2
            cannot read.
    """
    check_source(source)
    if not source or source.startswith(_DETECTRON2):
        return
    # Detectron2's main branch takes options after a question mark.
    for name in {source, source.partition("?")[0]}:
        path = name if os.path.isfile(name) else fetch_weights(name)
        if not os.path.isfile(path):
            continue
        if path.endswith(".safetensors"):
            raise InputError(
                f"{path}: Detectron2's checkpointer reads no safetensors; smca.Predictor and train.init_checkpoint do, "
                "and tools/publish_checkpoint.py makes a .pth of it"
            )
        check_content(path)
