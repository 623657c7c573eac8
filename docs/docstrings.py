"""Lets Griffe read the project's docstrings: `Shape:` and `Source:`, which it does not know, and bare doctests."""

import re
import textwrap
from typing import Any

import griffe

# A section that Griffe does not know, with what stands in its line and, indented, below.
SECTION = re.compile(r'^(Shape|Source):(.*)\n((?:(?: +.*)?\n)*)', re.MULTILINE)
# Lines of a session, until an empty one.
DOCTEST = re.compile(r'^>>> .*\n(?:.+\n)*', re.MULTILINE)


class ProjectDocstrings(griffe.Extension):
    """Turns what Griffe does not know into Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a class or function."""
        if obj.docstring:
            text = SECTION.sub(_as_paragraph, obj.docstring.value + '\n')
            obj.docstring.value = DOCTEST.sub(_as_code, text)


def _as_paragraph(section: re.Match[str]) -> str:
    title, line, below = section.groups()
    if line.strip():
        return f'**{title}:** {line.strip()} {" ".join(below.split())}\n\n'
    return f'**{title}:**\n\n{textwrap.dedent(below).strip()}\n\n'


def _as_code(session: re.Match[str]) -> str:
    return f'```pycon\n{session[0]}```\n'
