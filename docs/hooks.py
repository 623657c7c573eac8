"""What the site needs beyond MkDocs: links from pages to files outside the site."""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r'(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)\)')


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Name such files by their path: the repository has them, the site does not."""
    docs = Path(config.docs_dir).resolve()

    def named(link: re.Match[str]) -> str:
        target = (Path(page.file.abs_src_path).parent / link[2]).resolve()
        if target.is_relative_to(docs) or not target.exists():  # a missing file is for MkDocs to complain of
            return link[0]
        return f'{link[1]} (`{target.relative_to(docs.parent)}`)'

    return LINK.sub(named, markdown)
