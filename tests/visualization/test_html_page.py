"""Pages that are one file."""

import base64
import io

import pytest
from jinja2 import UndefinedError
from PIL import Image

from smca.visualization.html_page import data_url, write_page

TEMPLATE = '{% extends "page.html" %}{% block content %}<p>{{ text }}</p><img src="{{ src }}">{% endblock %}'


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "mine.html"
    path.write_text(TEMPLATE)
    return path


def test_text_is_escaped_and_pictures_lie_inside(tmp_path, template):
    picture = Image.new("RGB", (3, 2), (9, 80, 200))
    write_page(tmp_path / "page", template, title="<a> & b", text="<script>", src=data_url(picture))
    page = (tmp_path / "page").read_text(encoding="utf-8")
    assert "<title>&lt;a&gt; &amp; b</title>" in page
    assert "<p>&lt;script&gt;</p>" in page
    assert "http" not in page
    content = base64.b64decode(page.split("base64,")[1].split('"')[0])
    assert Image.open(io.BytesIO(content)).getpixel((2, 1)) == (9, 80, 200)


def test_a_page_that_cannot_be_made_leaves_the_last_one(tmp_path, template):
    page = tmp_path / "page.html"
    page.write_text("before")
    with pytest.raises(UndefinedError):
        write_page(page, template, title="", text="")
    assert page.read_text() == "before"
    assert list(tmp_path.glob("page*")) == [page]
