"""Markdown: tables, and text of others that stays text."""

import re
from collections.abc import Sequence

BAR, QUOTE = r'\|', "'"


def table_lines(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table of finished cells; a pipe in one does not end it."""
    lines = [heading, ['---'] * len(heading), *rows]
    return '\n'.join(f'| {" | ".join(cell.replace("|", BAR) for cell in line)} |' for line in lines)


def prose(text: str) -> str:
    r"""Render text that somebody else wrote, such as a title: it says what it says, as no HTML, code or link.

    >>> print(prose('a <b> `c` [d](e), p < 0.05'))
    a &lt;b> \`c\` \[d](e), p < 0.05
    """
    text = re.sub(r'([`\[])', r'\\\1', ' '.join(text.split()))
    # Elsewhere these stand for themselves, as in `p < 0.05` and `H&E`.
    return re.sub(r'<(?=[A-Za-z/!?])', '&lt;', re.sub(r'&(?=#?\w+;)', '&amp;', text))


def code(text: str) -> str:
    """Render a name that somebody else wrote as code, which it cannot end."""
    return f'`{" ".join(text.split()).replace("`", QUOTE)}`'


def fenced(text: str) -> str:
    """Render lines that somebody else wrote as a block of code, which they cannot end."""
    return f'```\n{text.replace("```", 3 * QUOTE)}\n```'
