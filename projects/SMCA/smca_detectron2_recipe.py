"""What makes a pure-Python wheel out of Detectron2's release 0.6: the fixes and the metadata.

Used by `smca_install_detectron2`; imports nothing but the standard library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

WHEEL_VERSION = "0.6+purepython"
WHEEL_NAME = f"detectron2-{WHEEL_VERSION}-py3-none-any.whl"
GUIDE_URL = "https://detectron2.readthedocs.io/en/latest/tutorials/install.html"

# The release's projects that its own setup.py installs under `detectron2.projects`.
PROJECTS = {
    "point_rend": "projects/PointRend/point_rend",
    "deeplab": "projects/DeepLab/deeplab",
    "panoptic_deeplab": "projects/Panoptic-DeepLab/panoptic_deeplab",
}


@dataclass(frozen=True)
class SourceFix:
    """A replacement in the release's sources, and why today's libraries need it.

    Attributes:
        pattern: regular expression that is replaced.
        replacement: its replacement, as in `re.sub`.
        reason: what breaks without it.
        path: the one file it applies to, relative to the archive's root; None means every file.
    """

    pattern: str
    replacement: str
    reason: str
    path: str | None = None


SOURCE_FIXES = (
    SourceFix(
        r"\bImage\.LINEAR\b", "Image.BILINEAR", "Pillow 10 removed the old name of the filter"
    ),
    SourceFix(
        r"\bnp\.(bool|int|float|object|str)\b",
        r"\1",
        "NumPy 1.24 removed its aliases of the builtin types",
    ),
    SourceFix(
        r"torch\.meshgrid\(shifts_y, shifts_x\)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
        "PyTorch warns that the argument will be required",
        "detectron2/modeling/anchor_generator.py",
    ),
    SourceFix(
        r"(?m)^from \.api import \*$",
        "try:\n    from .api import *\nexcept ImportError:\n    pass",
        "PyTorch no longer contains Caffe2, which only this submodule needs",
        "detectron2/export/__init__.py",
    ),
    SourceFix(
        r"(?m)^from detectron2 import _C$",
        "from detectron2 import _C\nfrom detectron2._C import COCOevalEvaluateImages  # noqa: F401",
        "importing it without the compiled operator has to fail for the next fix to work",
        "detectron2/evaluation/fast_eval_api.py",
    ),
    SourceFix(
        r"(?m)^from detectron2\.evaluation\.fast_eval_api import COCOeval_opt$",
        "try:\n    from detectron2.evaluation.fast_eval_api import COCOeval_opt\n"
        "except ImportError:\n    COCOeval_opt = COCOeval",
        "without the compiled operators COCOEvaluator uses pycocotools, as upstream does now",
        "detectron2/evaluation/coco_evaluation.py",
    ),
)

# Stands in for the compiled extension, which several modules import at their top.
C_MODULE = f'''"""Stands in for Detectron2's compiled operators, which this build leaves out."""


def get_compiler_version():
    return "none (pure-Python build)"


def get_cuda_version():
    return "none (pure-Python build)"


def has_cuda():
    return False


def __getattr__(name):
    raise AttributeError(
        f"detectron2._C.{{name}} is a compiled operator, which the pure-Python build of Detectron2 "
        "does not have: install Detectron2 by its own guide, {GUIDE_URL}"
    )
'''

# The release pins black, too, which only LazyConfig.to_py imports; its `future`
# and `pydot` served Caffe2. Its model zoo imports pkg_resources, hence the bound on setuptools.
PYPROJECT = f"""\
[build-system]
requires = ["setuptools>=70.1"]
build-backend = "setuptools.build_meta"

[project]
name = "detectron2"
version = "{WHEEL_VERSION}"
description = "Detectron2 release 0.6 without its compiled operators"
requires-python = ">=3.9"
license = {{ text = "Apache-2.0" }}
dependencies = [
    "torch>=1.13",
    "torchvision",
    "numpy",
    "Pillow>=9.1",
    "matplotlib",
    "pycocotools>=2.0.2",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.7,<0.1.10",
    "omegaconf>=2.1",
    "hydra-core>=1.1",
    "setuptools<81",
]

[project.urls]
Homepage = "https://github.com/facebookresearch/detectron2"

[tool.setuptools]
include-package-data = false

[tool.setuptools.packages.find]
include = ["detectron2", "detectron2.*"]
namespaces = false

[tool.setuptools.package-data]
"detectron2.model_zoo" = ["configs/**/*.yaml", "configs/**/*.py"]
"""


def fix_source(text: str, path: str) -> str:
    """Apply `SOURCE_FIXES` to the text of the file `path` (relative to the archive's root).

    A changed file says so in its last line, as the release's licence asks.
    """
    fixed = text
    for fix in SOURCE_FIXES:
        if fix.path in (None, path):
            fixed = re.sub(fix.pattern, fix.replacement, fixed)
    if fixed != text:
        fixed = fixed.rstrip("\n") + "\n# Changed downstream by smca_install_detectron2.\n"
    return fixed


def prepare_source(root: Path) -> None:
    """Turn the unpacked release at `root` into a tree that builds a pure-Python wheel."""
    for project, folder in PROJECTS.items():
        (root / folder).rename(root / "detectron2" / "projects" / project)
    for file in sorted((root / "detectron2").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        fixed = fix_source(text, file.relative_to(root).as_posix())
        if fixed != text:
            file.write_text(fixed, encoding="utf-8")
    (root / "detectron2" / "_C.py").write_text(C_MODULE, encoding="utf-8")
    for leftover in ("setup.py", "setup.cfg", "README.md"):
        (root / leftover).unlink(missing_ok=True)
    (root / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
