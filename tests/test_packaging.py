"""What `pip wheel .` and `pip install -e .` give, built from a copy of the checkout."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIST_CONFIGS = """
import json, site, sys
from importlib.resources import as_file, files
import importlib.util
site.addsitedir(sys.argv[1])
# The package itself needs Detectron2 and seconds to import, which is not what is tested here.
spec = importlib.util.find_spec("smca")
package = importlib.util.module_from_spec(spec)
sys.modules["smca"] = package
with as_file(files("smca.configs")) as folder:
    names = sorted("smca/configs/" + p.relative_to(folder).as_posix() for p in folder.rglob("*.py"))
    print(json.dumps([str(folder), names]))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that building leaves nothing in the real one."""
    copy = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("projects", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore, symlinks=True)
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def build(checkout: Path, hook: str, target: Path) -> Path:
    program = f"import sys; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", program, str(target)], cwd=checkout, check=True, capture_output=True
    )
    (wheel,) = target.glob("*.whl")
    return wheel


def list_configs(site: Path, directory: Path) -> tuple[Path, set[str]]:
    """Where a Python that runs in `directory` with `site` finds `smca.configs`, and its files."""
    output = subprocess.run(
        [sys.executable, "-S", "-P", "-c", LIST_CONFIGS, str(site)],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    folder, names = json.loads(output)
    return Path(folder), set(names)


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--quiet", "--wheel-dir", str(target)],
        cwd=checkout,
        check=True,
        capture_output=True,
    )
    (wheel,) = target.glob("*.whl")
    return wheel


def configs_of(checkout: Path) -> set[str]:
    paths = (checkout / "configs").rglob("*.py")
    return {f"smca/{path.relative_to(checkout).as_posix()}" for path in paths}


def test_the_checkout_ships_no_symlinks():
    paths = [path for name in ("projects", "configs") for path in (ROOT / name).rglob("*")]
    assert [path for path in paths if path.is_symlink()] == []


def test_wheel_holds_every_module_and_config_and_no_other(checkout, wheel):
    source = checkout / "projects" / "SMCA"
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.endswith(".py")}
    assert shipped == configs_of(checkout) | modules


def test_wheel_metadata(wheel):
    version = {}
    exec((ROOT / "projects/SMCA/smca/version.py").read_text(), version)
    assert wheel.name == f"smca-{version['__version__']}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        read = {name.rpartition("/")[2]: archive.read(name).decode() for name in archive.namelist()}
    required = [line for line in read["METADATA"].splitlines() if line.startswith("Requires-Dist")]
    assert not any("detectron2" in line for line in required)
    assert any(line.startswith("Requires-Dist: setuptools<81") for line in required)
    assert "smca-install-detectron2 = smca_install_detectron2:main" in read["entry_points.txt"]
    # Which does not import the package before it has to.
    assert "smca-predict = smca_predict:main" in read["entry_points.txt"]
    assert "Apache License" in read["LICENSE"]


def test_configs_are_found_in_the_wheel_from_elsewhere(checkout, wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    folder, names = list_configs(site, tmp_path)
    assert folder == site / "smca" / "configs"
    assert names == configs_of(checkout)


def test_configs_are_found_in_an_editable_install(checkout, tmp_path):
    wheel = build(checkout, "build_editable", tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    folder, names = list_configs(tmp_path / "site", tmp_path)
    assert folder == checkout / "configs"
    assert names == configs_of(checkout)


def test_a_removed_config_is_not_shipped_again(checkout, wheel, tmp_path):
    """`wheel` built here before, so an old build folder is there."""
    stale = checkout / "build" / "lib" / "smca" / "configs" / "removed.py"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_text("x = 1\n")
    with zipfile.ZipFile(build(checkout, "build_wheel", tmp_path)) as archive:
        assert "smca/configs/removed.py" not in archive.namelist()
