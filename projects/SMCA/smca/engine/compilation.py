"""torch.compile of the parts of a detector that are tensors in, tensors out."""

from torch import nn

COMPILED_PARTS = ("backbone", "encoder", "decoder")


def compile_parts(model: nn.Module, *, backend: str = "inductor", fullgraph: bool = False) -> None:
    """Compile a detector's backbone, encoder and decoder in place, once for all sizes of images.

    Names of parameters stay as they are, so checkpoints are the same. Each part is compiled when it is first called, in
    training and in evaluation on its own, which takes minutes.

    Args:
        model: an :class:`~smca.modeling.SMCA`.
        backend, fullgraph: of ``torch.compile``.
    """
    for name in COMPILED_PARTS:
        getattr(model, name).compile(dynamic=True, backend=backend, fullgraph=fullgraph)
