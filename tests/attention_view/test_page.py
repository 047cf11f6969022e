"""The page as a file; tests/visualization/test_pages_in_browser.py opens one."""

import re

import numpy as np
import pytest
from PIL import Image
from torch import nn

from helpers.builders import small_model
from smca.attention_view import look_at_image
from smca.attention_view.figure import draw_heads, draw_models
from smca.attention_view.models import NamedModel
from smca.attention_view.page import SeenImage, write_attention_page
from smca.attention_view.survey import look_at_images, summarize
from smca.inference import Predictor


@pytest.fixture
def page_file(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    models = [
        NamedModel(name, "", Predictor(model=small_model(name), min_size=96, device="cpu"))
        for name in ("smca", "detr", "deformable_detr")
    ]
    objects = look_at_image([model.predictor for model in models], image, count=2)
    path = tmp_path / "attention.html"
    found = [
        (model.name, look_at_images(model.predictor, [image], threshold=0.0)) for model in models
    ]
    figures = {"images": 1, "threshold": 0.0, "models": summarize(found)}
    images = [SeenImage("<a>.png", Image.fromarray(image), objects)]
    write_attention_page(path, images, models, figures)
    return path


def test_page_refers_to_nothing_outside(page_file):
    text = page_file.read_text(encoding="utf-8")
    assert "http" not in text
    assert "@import" not in text
    assert 'name="viewport"' in text
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []
    assert "<a>.png" not in text


def test_no_style_has_a_width_in_pixels(page_file):
    text = page_file.read_text(encoding="utf-8")
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    styles = [style, *re.findall(r'style="([^"]*)"', text)]
    assert not [found for found in styles if re.search(r"width:\s*\d+px", found)]


def test_an_attention_that_cannot_be_shown_is_said(tmp_path):
    """On the page and in both pictures, instead of a gap or an error."""
    image = np.zeros((96, 128, 3), np.uint8)
    predictor = Predictor(model=small_model("detr"), min_size=96, device="cpu")
    for layer in predictor.model.decoder.layers:
        layer.co_attention = NoCoAttention()
    picture = Image.fromarray(image)
    (seen,) = look_at_image([predictor], image, count=1)
    models = [NamedModel("own", "", predictor)]
    write_attention_page(tmp_path / "page.html", [SeenImage("a.png", picture, [seen])], models)
    assert "which does not tell where it looks" in (tmp_path / "page.html").read_text("utf-8")
    assert draw_models(picture, seen, ["own"], ["a"]).ndim == 3
    assert draw_heads(picture, seen[0], "own").ndim == 3


class NoCoAttention(nn.Module):
    def forward(self, query, levels, prior=None):
        return query
