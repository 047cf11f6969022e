"""torch.compile of the parts of a detector that are tensors in, tensors out."""

from torch import nn

from smca.errors import InputError

COMPILED_PARTS = ("backbone", "encoder", "decoder")


def compile_parts(model: nn.Module, *, backend: str = "inductor", fullgraph: bool = False) -> None:
    """Compile a detector's backbone, encoder and decoder in place, for all sizes of images.

    Names of parameters stay as they are, so checkpoints are the same. Each part is one graph, compiled when it is first
    called, and again for batches with and without padding, of one image, and in evaluation; each takes minutes.

    Args:
        model: an :class:`~smca.modeling.SMCA`.
        backend, fullgraph: of ``torch.compile``.

    Raises:
        InputError: if the model has no such parts.
    """
    missing = [name for name in COMPILED_PARTS if not hasattr(model, name)]
    if missing:
        raise InputError(
            f"train.compile=True is for SMCA and DETR models: {type(model).__name__} has no "
            f"{' and no '.join(missing)}; set it to False"
        )
    for name in COMPILED_PARTS:
        getattr(model, name).compile(dynamic=True, backend=backend, fullgraph=fullgraph)
