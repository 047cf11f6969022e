import torch

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Names and what autocast computes in."""


def find_device(device: str | torch.device) -> torch.device:
    """ "auto" is "cuda" where there is one, else "cpu".

    Raises:
        ValueError: if the device is unknown or not there.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is unknown; use auto, cpu, cuda or cuda:N") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device}: PyTorch sees {torch.cuda.device_count()} CUDA devices; use cpu"
        )
    return found


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """What autocast computes in; None without it.

    Raises:
        ValueError: if the precision is unknown or not for this device.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} must be one of {', '.join(PRECISIONS)}")
    if precision == "float16" and device.type == "cpu":
        raise ValueError("precision float16 needs a GPU; use bfloat16 on a CPU")
    return PRECISIONS[precision]
