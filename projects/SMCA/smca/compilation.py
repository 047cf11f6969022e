"""torch.compile of the parts of a detector that are tensors in, tensors out."""

import torch
from torch import nn

from smca.errors import InputError

COMPILED_PARTS = ("backbone", "encoder", "decoder")


def compile_parts(model: nn.Module, *, backend: str = "inductor", fullgraph: bool = False) -> None:
    """Compile a detector's backbone, encoder and decoder in place, for all sizes of images.

    Names of parameters stay as they are, so checkpoints are the same. Each part is one graph, compiled when it is first
    called, and again for batches with and without padding, of one image, and in evaluation; each takes minutes.

    Args:
        model: an :class:`~smca.modeling.SMCA`, on its device.
        backend, fullgraph: of ``torch.compile``.

    Raises:
        InputError: if the model has no such parts, or nothing can be compiled on this machine.
    """
    missing = [name for name in COMPILED_PARTS if not hasattr(model, name)]
    if missing:
        raise InputError(
            f"compile is for SMCA and DETR models: a {type(model).__name__} has no {' and no '.join(missing)}; leave "
            "it out"
        )
    _try_compiler(next(model.parameters()).device, backend)
    for name in COMPILED_PARTS:
        getattr(model, name).compile(dynamic=True, backend=backend, fullgraph=fullgraph)


def _try_compiler(device: torch.device, backend: str) -> None:
    """With a small function; the first batch would find out after a minute, and not say it in a sentence."""
    compiled = torch.compile(lambda x: (x + 1).relu(), backend=backend)
    try:
        compiled(torch.zeros(2, device=device))
    except Exception as error:
        # The compiler's own, where PyTorch tells it.
        cause = getattr(error, "inner_exception", error)
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise InputError(
            f"compile: it does not work here ({reason}); it needs a C++ compiler such as g++, and on a GPU triton; "
            "leave it out"
        ) from error
