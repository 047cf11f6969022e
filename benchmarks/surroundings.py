"""What a benchmark ran on, as the first fields of its report."""

import functools

import detectron2
import torch

import smca
from smca.analysis.table import machine_name


@functools.cache
def surroundings() -> dict:
    """Machine and versions for the JSON file, printed the first time."""
    machine = f"{machine_name(torch.device('cpu'))}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        machine += f", {machine_name(torch.device('cuda'))}"
    versions = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "detectron2": detectron2.__version__,
        "smca": smca.__version__,
    }
    print(machine, versions, flush=True)
    return {"machine": machine, "versions": versions}
