"""Text from files, as a terminal, a log or a table can show it."""


def printable(text: str, encoding: str = "utf-8") -> str:
    """Control characters, escape sequences, line breaks and what ``encoding`` lacks as backslash escapes.

    Names in a file may hold anything, and some terminals obey what others only show.
    """
    safe = text.encode(encoding, "backslashreplace").decode(encoding)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in safe)
