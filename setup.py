"""Packaging of `smca`; the build system and the tools' settings are in pyproject.toml."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SOURCE = "projects/SMCA"

INSTALL_REQUIRES = [
    # Detectron2 is not here since no index has it: see smca_install_detectron2.
    "torch>=2.6",
    "torchvision>=0.21",
    "numpy>=1.26",
    "scipy>=1.11",
    "pycocotools>=2.0.7",
    "fvcore>=0.1.5,<0.1.6",
    # Detectron2's own bound.
    "iopath>=0.1.9,<0.1.10",
    "Jinja2>=3.1",
    "omegaconf>=2.1,<3",
    "hydra-core>=1.1,<2",
    "cloudpickle",
    "tabulate",
    "tensorboard",
    "tqdm>4.29.0",
    "matplotlib>=3.7",
    "Pillow>=10.1",
    "yacs>=0.1.8",
    "termcolor>=1.1",
    "safetensors>=0.4",
    # Detectron2's model zoo imports pkg_resources, which newer setuptools no longer have.
    "setuptools>=70.1,<81",
]
PREDICT_REQUIRES = [
    # For video; images do without.
    "opencv-python-headless>=4.8",
]
TIMM_REQUIRES = [
    "timm>=1.0",
]
EXPORT_REQUIRES = [
    "onnx>=1.16",
    # What PyTorch's exporter is made of.
    "onnxscript>=0.5",
    "onnxruntime>=1.19",
]
WANDB_REQUIRES = [
    "wandb>=0.17",
]
MLFLOW_REQUIRES = [
    "mlflow-skinny>=2.10",
]
BENCHMARKS_REQUIRES = [
    # Detectors to measure beside.
    "transformers>=5,<6",
]
DEMO_REQUIRES = [
    *PREDICT_REQUIRES,
    "scikit-learn>=1.3",
    "faster-coco-eval>=1.6",
]
DEV_REQUIRES = [
    *DEMO_REQUIRES,
    *TIMM_REQUIRES,
    *EXPORT_REQUIRES,
    *WANDB_REQUIRES,
    *MLFLOW_REQUIRES,
    # For fonts that tests make; matplotlib brings it along.
    "fonttools>=4.40",
    "hypothesis>=6.100",
    # Tests of pages, with a Chromium that is installed; they are skipped without one.
    "playwright>=1.45",
    "pytest>=8",
    "pytest-xdist>=3.5",
    # Another minor version may format differently, and `make test` compares.
    "ruff~=0.17.6",
]
COMMANDS = {
    "smca-attention": "smca.attention_view.command:main",
    "smca-check-dataset": "smca.data_check.command:main",
    "smca-export": "smca.export.command:main",
    "smca-publish": "smca.model_zoo.publish_command:main",
    "smca-install-detectron2": "smca_install_detectron2:main",
    "smca-predict": "smca_predict:main",
    "smca-report": "smca.report.command:main",
}


def read_version() -> str:
    text = (ROOT / SOURCE / "smca" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


def find_configs() -> dict[str, str]:
    """Package name -> folder of `configs/` and of everything below it that holds files."""
    folders = [ROOT / "configs", *(ROOT / "configs").rglob("*/")]
    return {
        ".".join(("smca", *folder.relative_to(ROOT).parts)): folder.relative_to(ROOT).as_posix()
        for folder in sorted(folders)
        if folder.is_dir() and folder.name != "__pycache__"
    }


class CleanBuildPy(build_py):
    """Forget the last build first, or files that were since renamed would be shipped, too."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib) / "smca", ignore_errors=True)
        super().run()


CONFIGS = find_configs()
README = ROOT / "README.md"

setup(
    name="smca",
    version=read_version(),
    description="SMCA-DETR, fast convergence of DETR, as an extension of Detectron2",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"": SOURCE, **CONFIGS},
    packages=[*find_packages(SOURCE, include=["smca", "smca.*"]), *CONFIGS],
    package_data={"smca": ["**/*.json", "**/*.png", "**/*.html"]},
    include_package_data=False,
    py_modules=[
        "smca_detectron2_recipe",
        "smca_install_detectron2",
        "smca_predict",
        "smca_runtime",
    ],
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "predict": PREDICT_REQUIRES,
        "timm": TIMM_REQUIRES,
        "export": EXPORT_REQUIRES,
        "wandb": WANDB_REQUIRES,
        "mlflow": MLFLOW_REQUIRES,
        "benchmarks": BENCHMARKS_REQUIRES,
        "demo": DEMO_REQUIRES,
        "dev": DEV_REQUIRES,
    },
    entry_points={"console_scripts": [f"{name} = {entry}" for name, entry in COMMANDS.items()]},
    cmdclass={"build_py": CleanBuildPy},
)
