"""Files of ``torch.export``."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

DESCRIPTION = "smca.json"
"""Its extra file, with what an ONNX file has as metadata."""


def save_pt2(
    program: torch.export.ExportedProgram, path: Path, description: Mapping[str, str]
) -> None:
    """Write a traced graph; ``torch.export.load`` reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={DESCRIPTION: json.dumps(dict(description))})


class Program:
    """A file of ``torch.export``: takes images and sizes, gives outputs by name."""

    def __init__(self, path: Path):
        extra = {DESCRIPTION: ""}
        self._module = torch.export.load(path, extra_files=extra).module()
        self.description = json.loads(extra[DESCRIPTION])
        self.output_names = json.loads(self.description["outputs"])

    @torch.no_grad()
    def __call__(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """(B, 3, H, W) float32 and (B, 2) int64 -> outputs by name."""
        values = self._module(torch.from_numpy(images), torch.from_numpy(sizes))
        return {n: v.numpy() for n, v in zip(self.output_names, values, strict=True)}
