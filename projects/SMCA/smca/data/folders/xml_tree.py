"""Reads small XML files of strangers: elements, their text and their lines, and nothing that XML can do besides.

*The threat* is a document type: entities that stand for each other grow to any size, and ones from outside read files
or the network. A file that declares one is refused; no annotation needs it.
"""

from __future__ import annotations

import dataclasses
from xml.parsers import expat

from smca.errors import InputError

_LARGEST_FILE = 1 << 24
_DEEPEST = 50


@dataclasses.dataclass(eq=False)
class Element:
    """
    Attributes:
        tag: its name.
        line: in the file, from 1.
        text: directly within it, without blanks around.
        children: elements directly within it.
    """

    tag: str
    line: int
    text: str = ""
    children: list[Element] = dataclasses.field(default_factory=list)

    def all(self, tag: str) -> list[Element]:
        """Children of that name."""
        return [child for child in self.children if child.tag == tag]

    def child(self, tag: str) -> Element | None:
        """The first of that name."""
        return next(iter(self.all(tag)), None)

    def text_of(self, tag: str) -> str:
        """Empty where there is no such child."""
        child = self.child(tag)
        return "" if child is None else child.text


def parse_xml(raw: bytes) -> Element:
    """The outermost element.

    Raises:
        InputError: without the file's name, if it is no XML, too large or deep, or has a document type.
    """
    if len(raw) > _LARGEST_FILE:
        raise InputError(f"it is larger than {_LARGEST_FILE >> 20} MB, which is no annotation")
    if not raw.strip():
        raise InputError("it is empty")
    parser = expat.ParserCreate()
    parser.buffer_text = True
    roots: list[Element] = []
    stack: list[Element] = []

    def refuse(*_: object) -> None:
        raise InputError(
            f"line {parser.CurrentLineNumber} declares a document type (DOCTYPE), which is not read: remove it"
        )

    def start(tag: str, _: dict) -> None:
        if len(stack) >= _DEEPEST:
            raise InputError(f"line {parser.CurrentLineNumber}: its elements are nested too deeply")
        element = Element(tag, parser.CurrentLineNumber)
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def end(_: str) -> None:
        element = stack.pop()
        element.text = element.text.strip()

    def add_text(text: str) -> None:
        stack[-1].text += text

    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = add_text
    try:
        parser.Parse(raw, True)
    except InputError:
        raise
    except expat.ExpatError as error:
        raise InputError(
            f"line {error.lineno}: it is no XML ({expat.ErrorString(error.code)})"
        ) from error
    # Encodings that Python does not know, or that have more than a byte a character.
    except (ValueError, LookupError) as error:
        raise InputError(f"it is no XML in an encoding that can be read ({error})") from error
    return roots[0]
