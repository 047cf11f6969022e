"""The Detectron2 installer, with a small stand-in for the release and for pip."""

import hashlib
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tarfile
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import smca_detectron2_recipe as recipe
import smca_install_detectron2 as installer

COCO_EVALUATION = """\
from pycocotools.cocoeval import COCOeval

from detectron2.evaluation.fast_eval_api import COCOeval_opt
"""
FILES = {
    "setup.py": "raise SystemExit('the release cannot build itself')\n",
    "LICENSE": "licence text\n",
    "detectron2/__init__.py": '__version__ = "0.6"\n',
    "detectron2/layers/__init__.py": "",
    "detectron2/projects/__init__.py": "",
    "detectron2/model_zoo/__init__.py": "",
    "detectron2/model_zoo/configs/COCO-Detection/a.yaml": "A: 1\n",
    "detectron2/model_zoo/configs/common/models/b.py": "b = 1\n",
    "detectron2/data/transform.py": "from PIL import Image\n\ninterp = Image.LINEAR\n",
    "detectron2/evaluation/coco_evaluation.py": COCO_EVALUATION,
    "projects/PointRend/point_rend/__init__.py": "",
    "projects/DeepLab/deeplab/__init__.py": "",
    "projects/Panoptic-DeepLab/panoptic_deeplab/__init__.py": "",
}


def write_archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


class FakePip:
    """Stands in for `subprocess.run`: serves `archive`, builds a file, and notes the calls."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.calls: list[str] = []
        self.failures: dict[str, str] = {}

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess:
        assert command[:3] == [sys.executable, "-m", "pip"]
        arguments = [argument for argument in command[3:] if argument[:9] != "--disable"]
        name = arguments[0]
        self.calls.append(name)
        if name in self.failures:
            return subprocess.CompletedProcess(command, 1, stdout=self.failures[name])
        if name == "download":
            assert "--require-hashes" in arguments
            target = Path(arguments[arguments.index("--dest") + 1])
            target.mkdir()
            shutil.copy(self.archive, target)
        elif name == "wheel":
            target = Path(arguments[arguments.index("--wheel-dir") + 1])
            target.mkdir()
            with zipfile.ZipFile(target / installer.WHEEL_NAME, "w") as wheel:
                for file in sorted(Path(arguments[-1]).rglob("*.py")):
                    wheel.write(file, file.relative_to(arguments[-1]))
        return subprocess.CompletedProcess(command, 0, stdout="")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMCA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pip(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    """No Detectron2 is there, and pip is a fake one whose index holds the small release."""
    archive = write_archive(tmp_path / "pb1-detectron2-0.6.tar.gz", FILES)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    fake = FakePip(archive)
    monkeypatch.setattr(installer, "SDIST_SHA256", digest)
    monkeypatch.setattr(installer.subprocess, "run", fake)
    monkeypatch.setattr(
        installer,
        "find_detectron2",
        lambda: ("0.6", "/site/detectron2") if "install" in fake.calls else None,
    )
    monkeypatch.setattr(installer.importlib.util, "find_spec", lambda name: object())
    return fake


def files_below(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def one_sentence(capsys: pytest.CaptureFixture) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def make_package(folder: Path, text: str) -> Path:
    (folder / "detectron2" / "layers").mkdir(parents=True)
    (folder / "detectron2" / "__init__.py").write_text(text)
    (folder / "detectron2" / "layers" / "__init__.py").write_text("")
    return folder / "detectron2"


def test_importable_detectron2_is_left_alone(tmp_path, cache, monkeypatch, capsys):
    package = make_package(tmp_path / "site", '__version__ = "0.6.7"\n')
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setattr(installer, "_pip", lambda *_, **__: pytest.fail("pip was called"))

    assert installer.main([]) == 0

    out = capsys.readouterr().out
    assert "0.6.7" in out
    assert str(package) in out
    assert not cache.exists()


def test_broken_detectron2_is_reported_and_not_replaced(tmp_path, cache, monkeypatch, capsys):
    package = make_package(tmp_path / "site", "raise ImportError('libtorch is too new')\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setattr(installer, "_pip", lambda *_, **__: pytest.fail("pip was called"))

    assert installer.main([]) == 1

    message = one_sentence(capsys)
    assert "libtorch is too new" in message
    assert "--force" in message
    assert not cache.exists()


def test_a_folder_of_that_name_is_no_detectron2(tmp_path, monkeypatch):
    (tmp_path / "detectron2").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # -S hides the Detectron2 of this environment.
    program = installer.PROBE
    probe = subprocess.run(
        [sys.executable, "-S", "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert probe.stdout.strip() == "null"


def test_builds_installs_and_reuses_the_wheel(pip, cache, capsys):
    assert installer.main([]) == 0
    assert pip.calls == ["download", "wheel", "install"]
    assert "Detectron2 0.6 is installed in /site/detectron2." in capsys.readouterr().out
    entry = installer.cache_entry().name
    assert files_below(cache) == [
        f"{entry}/{installer.WHEEL_NAME}",
        f"{entry}/{installer.WHEEL_NAME}.sha256",
    ]
    with zipfile.ZipFile(cache / entry / installer.WHEEL_NAME) as wheel:
        assert "detectron2/projects/point_rend/__init__.py" in wheel.namelist()
        assert b"Image.BILINEAR" in wheel.read("detectron2/data/transform.py")

    pip.calls.clear()
    assert installer.main([]) == 0
    assert pip.calls == ["install"]


@pytest.mark.parametrize("damage", ["wheel", "recorded", "missing"])
def test_damaged_cache_is_rebuilt(pip, cache, damage):
    wheel = installer.get_wheel()
    recorded = wheel.with_name(f"{wheel.name}.sha256")
    if damage == "wheel":
        wheel.write_bytes(wheel.read_bytes()[:-1])
    elif damage == "recorded":
        recorded.write_bytes(b"\xff\xfe")
    else:
        recorded.unlink()
    pip.calls.clear()

    assert installer.get_wheel() == wheel

    assert pip.calls == ["download", "wheel"]
    assert installer.cached_wheel(wheel.parent) == wheel


def test_concurrent_calls_build_once(pip, cache):
    with ThreadPoolExecutor(4) as pool:
        wheels = list(pool.map(lambda _: installer.get_wheel(), range(4)))
    assert set(wheels) == {installer.cached_wheel(installer.cache_entry())}
    assert pip.calls == ["download", "wheel"]


def test_a_killed_build_leaves_nothing_that_is_used(pip, cache):
    (cache / ".staging-killed" / "entry").mkdir(parents=True)
    (cache / ".staging-killed" / "entry" / installer.WHEEL_NAME).write_bytes(b"half")

    installer.get_wheel()

    assert [name for name in files_below(cache) if "staging" in name] == []


HASH_OUTPUT = """\
Collecting pb1-detectron2==0.6
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated
    Expected sha256 5d2e
         Got        0000
"""
NETWORK_OUTPUT = """\
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'
ERROR: Could not find a version that satisfies the requirement pb1-detectron2==0.6
ERROR: No matching distribution found for pb1-detectron2==0.6
"""
BUILD_OUTPUT = """\
  Preparing metadata (setup.py): finished with status 'error'
error: metadata-generation-failed
hint: See above for details.
"""


@pytest.mark.parametrize(
    ("step", "output", "words"),
    [
        ("download", HASH_OUTPUT, ["download pb1-detectron2==0.6", "sha256", "pip config list"]),
        (
            "download",
            NETWORK_OUTPUT,
            ["download pb1-detectron2==0.6", "network", installer.GUIDE_URL],
        ),
        ("download", BUILD_OUTPUT, ["download pb1-detectron2==0.6", "metadata-generation-failed"]),
        ("wheel", "error: invalid command 'bdist_wheel'\n", ["wheel", "bdist_wheel"]),
    ],
)
def test_a_failed_step_is_one_sentence_and_leaves_nothing(pip, cache, capsys, step, output, words):
    pip.failures[step] = output

    assert installer.main([]) == 1

    message = one_sentence(capsys)
    assert all(word in message for word in words)
    assert "install" not in pip.calls
    assert files_below(cache) == []


def test_a_wrong_archive_is_refused_even_if_pip_lets_it_through(pip, cache, capsys):
    write_archive(pip.archive, FILES | {"detectron2/evil.py": "x = 1\n"})

    assert installer.main([]) == 1

    assert installer.SDIST_SHA256 in one_sentence(capsys)
    assert pip.calls == ["download"]
    assert files_below(cache) == []


def test_a_failed_installation_keeps_the_wheel_and_says_so_once(pip, cache, capsys):
    pip.failures["install"] = NETWORK_OUTPUT
    assert installer.main([]) == 1
    assert "install Detectron2's wheel" in one_sentence(capsys)
    assert installer.cached_wheel(installer.cache_entry()) is not None


def test_without_torch_it_names_torch(pip, cache, capsys, monkeypatch):
    monkeypatch.setattr(
        installer.importlib.util, "find_spec", lambda name: None if name == "torch" else object()
    )
    assert installer.main([]) == 1
    assert "pip install torch torchvision" in one_sentence(capsys)
    assert pip.calls == []


def test_a_cache_that_cannot_be_written_is_named(pip, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SMCA_CACHE", str(tmp_path / "file" / "cache"))
    assert installer.main([]) == 1
    message = one_sentence(capsys)
    assert str(tmp_path / "file" / "cache") in message
    assert "SMCA_CACHE" in message


def test_wheel_dir_and_no_install(pip, cache, tmp_path, capsys):
    assert installer.main(["--no-install", "--wheel-dir", str(tmp_path / "wheels")]) == 0
    assert "install" not in pip.calls
    assert files_below(tmp_path / "wheels") == [installer.WHEEL_NAME]
    assert str(tmp_path / "wheels" / installer.WHEEL_NAME) in capsys.readouterr().out


def test_force_rebuilds_and_reinstalls(pip, cache):
    installer.get_wheel()
    pip.calls.clear()
    assert installer.main(["--force"]) == 0
    assert pip.calls == ["download", "wheel", "install", "install"]


def test_cache_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SMCA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/ignored")
    assert installer.cache_root() == tmp_path / ".cache" / "smca"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert installer.cache_root() == tmp_path / "xdg" / "smca"
    monkeypatch.setenv("SMCA_CACHE", str(tmp_path / "own"))
    assert installer.cache_root() == tmp_path / "own"


@pytest.mark.parametrize("kind", ["outside", "symlink"])
def test_unsafe_archives_are_refused(tmp_path, kind):
    archive = tmp_path / "bad.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("top/../../escaped" if kind == "outside" else "top/link")
        if kind == "symlink":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(installer.InstallError, match="not safe to unpack"):
        installer.unpack(archive, tmp_path / "out")
    assert files_below(tmp_path) == ["bad.tar.gz"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("interp=Image.LINEAR, fill=0", "interp=Image.BILINEAR, fill=0"),
        ("dtype=np.bool)", "dtype=bool)"),
        ("np.zeros(3, np.int) + np.float(1)", "np.zeros(3, int) + float(1)"),
        ("np.array(x, dtype=np.object); np.str", "np.array(x, dtype=object); str"),
    ],
)
def test_fixes_of_every_file(before, after):
    fixed = recipe.fix_source(before + "\n", "detectron2/any.py")
    assert fixed.splitlines()[0] == after
    assert fixed.splitlines()[-1].startswith("# Changed downstream")


@pytest.mark.parametrize(
    "text",
    [
        "np.bool_ np.int64 np.float32 np.object_ np.floating",
        "jnp.int",
        "Image.BILINEAR",
        "np.integer",
    ],
)
def test_fixes_leave_the_rest_alone(text):
    assert recipe.fix_source(text, "detectron2/any.py") == text


def test_fixes_of_one_file_only():
    text = "from .api import *\nfrom .flatten import x\n"
    assert recipe.fix_source(text, "detectron2/other/__init__.py") == text
    fixed = recipe.fix_source(text, "detectron2/export/__init__.py")
    assert fixed.startswith("try:\n    from .api import *\nexcept ImportError:\n    pass\nfrom .fl")


def load_c_module() -> types.ModuleType:
    module = types.ModuleType("detectron2._C")
    exec(recipe.C_MODULE, module.__dict__)
    return module


def test_c_module_answers_what_environment_reports_ask():
    module = load_c_module()
    assert module.has_cuda() is False
    assert "pure-Python" in module.get_compiler_version()
    assert "pure-Python" in module.get_cuda_version()


def test_c_module_explains_missing_operators():
    module = load_c_module()
    with pytest.raises(AttributeError, match=r"_C\.nms_rotated is a compiled operator.*https://"):
        _ = module.nms_rotated
    assert not hasattr(module, "COCOevalEvaluateImages")


def test_evaluator_falls_back_to_pycocotools(monkeypatch):
    """The two fixes together: a fast evaluator that fails to import gives way to the plain one."""
    package = types.ModuleType("detectron2")
    package.__path__ = []
    package._C = load_c_module()
    fast = "import sys\n" + recipe.fix_source(
        "from detectron2 import _C\n\nclass COCOeval_opt: ...\n",
        "detectron2/evaluation/fast_eval_api.py",
    )
    monkeypatch.setitem(sys.modules, "detectron2", package)
    monkeypatch.setitem(sys.modules, "detectron2._C", package._C)
    with pytest.raises(ImportError, match="COCOevalEvaluateImages"):
        exec(fast, {})

    # Other tests may have imported the real ones.
    monkeypatch.setitem(sys.modules, "detectron2.evaluation", None)
    monkeypatch.setitem(sys.modules, "detectron2.evaluation.fast_eval_api", None)
    namespace: dict = {}
    exec(recipe.fix_source(COCO_EVALUATION, "detectron2/evaluation/coco_evaluation.py"), namespace)
    assert namespace["COCOeval_opt"] is namespace["COCOeval"]


def test_real_build_holds_configs_and_projects(tmp_path, pip, monkeypatch):
    """The metadata is good enough for the real setuptools, and nothing is left out of the wheel."""
    root = installer.unpack(pip.archive, tmp_path / "source")
    recipe.prepare_source(root)
    monkeypatch.undo()
    program = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, check=True, capture_output=True
    )
    with zipfile.ZipFile(tmp_path / installer.WHEEL_NAME) as wheel:
        names = wheel.namelist()
        metadata = wheel.read("detectron2-0.6+purepython.dist-info/METADATA").decode()
    assert {
        "detectron2/_C.py",
        "detectron2/model_zoo/configs/COCO-Detection/a.yaml",
        "detectron2/model_zoo/configs/common/models/b.py",
        *(f"detectron2/projects/{project}/__init__.py" for project in recipe.PROJECTS),
    } <= set(names)
    assert "Requires-Dist: setuptools<81" in metadata
    assert not re.search(r"Requires-Dist: (black|future|pydot)", metadata)
    assert any(name.endswith("LICENSE") for name in names)


def test_the_modules_need_neither_torch_nor_detectron2():
    program = "import smca_install_detectron2 as m; m._parser().format_help()"
    folder = str(Path(importlib.util.find_spec("smca_install_detectron2").origin).parent)
    subprocess.run(
        [sys.executable, "-S", "-c", program], env={"PYTHONPATH": folder}, check=True, timeout=30
    )
