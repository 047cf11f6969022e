"""What a benchmark ran on, as the first fields of its report."""

import os
import platform

import detectron2
import torch

import smca


def surroundings() -> dict:
    """Machine and versions, printed and for the JSON file."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.get_device_name()}"
    versions = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "detectron2": detectron2.__version__,
        "smca": smca.__version__,
    }
    print(machine, versions, flush=True)
    return {"machine": machine, "versions": versions}
