"""Pages of HTML that are one file each: pictures lie inside, and nothing is fetched."""

import base64
import io
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from smca.whole_file import replacing

TEMPLATES = Path(__file__).parent / "templates"


def write_page(output_path: str | os.PathLike, template: str | os.PathLike, **values: Any) -> None:
    """Write a page, whole or not at all.

    Args:
        output_path: of the page.
        template: file of Jinja2 that extends ``page.html``, which has the blocks ``style``, ``content`` and ``script``
            and asks for ``title``.
        values: of the template. Text is escaped; what is to be taken as HTML is ``markupsafe.Markup``.
    """
    template = Path(template)
    environment = Environment(
        loader=FileSystemLoader([TEMPLATES, template.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template.name).render(**values)
    with replacing(output_path) as path:
        Path(path).write_text(text, encoding="utf-8")


def data_url(picture: Image.Image, kind: str = "PNG", **options: Any) -> str:
    """A picture as the ``src`` of an ``img``; ``options`` are those of Pillow's ``save``."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{content}"
