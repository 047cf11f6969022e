"""Small detectors and their files, each exported once."""

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from helpers.checkpoints import CLASS_NAMES, tiny_checkpoint
from smca.checkpoint import ModelInfo
from smca.export import ExportReport, export_model, exporter
from smca.export.command import load
from smca.modeling import SMCA

# Tracing takes most of the time.
_SHORT = {"encoder.blocks": "Intra", "decoder.num_layers": 1}


@dataclasses.dataclass(frozen=True)
class Exported:
    """A model and its files, with detections; of one trace. Only smca_single_scale has a ``.pt2`` file."""

    checkpoint: Path
    model: SMCA
    info: ModelInfo
    report: ExportReport
    pt2: ExportReport | None = None

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
                overrides={} if name == "smca_single_scale" else _SHORT,
            )
            model, info = load(str(checkpoint), None)
            traced = []

            def trace(*args, **options):
                traced.append(traced[0] if traced else tracing(*args, **options))
                return traced[0]

            tracing = exporter.trace
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(exporter, "trace", trace)
                reports = [
                    export_model(model, info, folder / f"model{ending}", detections=9)
                    for ending in (".onnx", ".pt2")[: 2 if name == "smca_single_scale" else 1]
                ]
            made[name] = Exported(checkpoint, model, info, *reports)
        return made[name]

    return export
