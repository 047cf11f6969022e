import torch

from smca.errors import InputError

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Names and what autocast computes in."""


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """What autocast computes in; None without it.

    Raises:
        InputError: if the precision is unknown or not for this device.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} must be one of {', '.join(PRECISIONS)}")
    if precision == "float16" and device.type == "cpu":
        raise InputError("precision float16 needs a GPU; use bfloat16 on a CPU")
    return PRECISIONS[precision]
