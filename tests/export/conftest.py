"""Small detectors and their files, each exported once."""

import dataclasses
from pathlib import Path

import pytest
import torch

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from helpers.checkpoints import CLASS_NAMES, tiny_checkpoint
from smca.checkpoint import ModelInfo
from smca.export import ExportReport, export_model, exporter
from smca.export.command import load
from smca.modeling import SMCA

# Tracing and converting take most of the time.
_SHORT = {"encoder.blocks": "Intra", "decoder.num_layers": 1}


@dataclasses.dataclass(frozen=True)
class Exported:
    """A model and its ONNX file, with detections."""

    checkpoint: Path
    model: SMCA
    info: ModelInfo
    report: ExportReport
    program: torch.export.ExportedProgram

    @property
    def path(self) -> Path:
        return self.report.path


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Exports a model of ``configs/models`` in miniature, of 9 detections; the same one once."""
    made: dict[str, Exported] = {}

    def export(name: str) -> Exported:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            checkpoint = tiny_checkpoint(
                folder / "model.pth",
                name,
                class_names=CLASS_NAMES,
                overrides=_SHORT,
            )
            model, info = load(str(checkpoint), None)
            traced = []

            def trace(graph):
                traced.append(tracing(graph))
                return traced[0]

            tracing = exporter.trace
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(exporter, "trace", trace)
                report = export_model(model, info, folder / "model.onnx", detections=9)
            made[name] = Exported(checkpoint, model, info, report, traced[0])
        return made[name]

    return export
