"""The page, in a real browser where one is installed."""

import shutil

import numpy as np
import pytest
from PIL import Image

from helpers.builders import small_model
from smca.attention_view import look_at_image
from smca.attention_view.models import NamedModel
from smca.attention_view.page import SeenImage, write_attention_page
from smca.inference import Predictor

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def page_file(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    models = [
        NamedModel(name, "", Predictor(model=small_model(name), min_size=96, device="cpu"))
        for name in ("smca", "detr", "deformable_detr")
    ]
    objects = look_at_image([model.predictor for model in models], image, count=2)
    path = tmp_path / "attention.html"
    write_attention_page(path, [SeenImage("a.png", Image.fromarray(image), objects)], models)
    return path


def test_page_refers_to_nothing_outside(page_file):
    text = page_file.read_text(encoding="utf-8")
    assert "http" not in text
    assert "@import" not in text
    assert 'name="viewport"' in text


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed")
@pytest.mark.parametrize("width", [1280, 400])
def test_keyboard_chooses_and_nothing_is_wider_than_the_window(page_file, width):
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_selector("canvas")
        before = page.locator("#models").screenshot()
        page.get_by_role("radio", name="all").first.focus()
        page.keyboard.press("ArrowRight")
        assert "head 1" in page.locator("#state").text_content()
        assert page.locator("#models").screenshot() != before
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for radio in page.get_by_role("radio").all():
            assert radio.evaluate("it => it.labels.length") == 1
        assert not errors
        browser.close()
