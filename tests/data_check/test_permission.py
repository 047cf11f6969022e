"""Images that may not be read are not called missing, and not left out."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from helpers.custom_data import write_data_set
from smca.data import load_detection_dataset
from smca.data.sources.coco_source import CocoSource, register_coco
from smca.data.sources.custom_dataset import register_custom_dataset
from smca.data_check import check_dataset, fix_dataset
from smca.data_check.image_check import NO_PERMISSION

_NOBODY = 65534


@pytest.fixture(params=["folder", "files"])
def denied(request):
    """The json and the folder of images; the folder or each image is closed, for root, too, until the end."""
    # Not below pytest's own folder, which is closed to others.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    json_file, images = write_data_set(folder)
    user = os.geteuid()
    for path in [images] if request.param == "folder" else images.iterdir():
        path.chmod(0)
    if user == 0:
        os.seteuid(_NOBODY)
    yield json_file, images
    os.seteuid(user)
    images.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("denied", ["folder"], indirect=True)
def test_a_folder_that_may_not_be_entered_in_a_training(denied):
    json_file, images = denied
    register_coco(CocoSource("smca_test_denied", str(json_file), str(images)))
    with pytest.raises(ValueError, match="3 of 3 image files of smca_test_denied") as error:
        load_detection_dataset("smca_test_denied")
    assert f"cannot be read, the first is {images}/a.png (permission denied)" in str(error.value)


def test_it_is_no_missing_file_and_nothing_to_fix(denied):
    json_file, images = denied
    options = {"image_root": str(images), "workers": 0, "progress": False}
    report = check_dataset(str(json_file), **options)
    (found,) = report.findings
    assert (found.kind, found.count, found.fixable) == (NO_PERMISSION, 3, False)
    target = Path(tempfile.gettempdir()) / f"{json_file.parent.name}_fixed.json"
    with pytest.raises(ValueError, match=r"3 image files may not be read \(permission denied\)"):
        fix_dataset(report, str(target))
    assert not target.exists()


@pytest.mark.parametrize("denied", ["folder"], indirect=True)
def test_a_folder_within_it_is_not_called_absent(denied):
    json_file, images = denied
    words = f"folder {images}/sub cannot be looked for \\(permission denied\\)"
    with pytest.raises(ValueError, match=f"--images: {words}"):
        check_dataset(str(json_file), image_root=f"{images}/sub")
    paths = {"json_file": str(json_file), "image_root": f"{images}/sub"}
    with pytest.raises(ValueError, match=f"data.train_images: {words}"):
        register_custom_dataset("smca_test_denied", **paths, field="data.train")
