"""Rewrite docs/results/README.md, docs/model_zoo.md and the results of README.md from the records in docs/results/."""

import argparse
import sys
from pathlib import Path

from mmgfnuc.analysis import markdown_table, read_records
from mmgfnuc.analysis.model_zoo import KIND, zoo_page
from mmgfnuc.analysis.tables import replace_between
from mmgfnuc.engine.cli import run_cli

HEADING = '# Results\n\nMade from the records of this folder by `make table`.'
ROOT = Path(__file__).resolve().parents[2]


def rendered(root: Path) -> dict[Path, str]:
    """Text of each generated file."""
    records = read_records(root / 'docs/results')
    zoo = [record for record in records.values() if record.get('kind') == KIND]
    results = {name: record for name, record in records.items() if record not in zoo}

    def tables(folder: str) -> str:
        return '\n\n'.join(markdown_table(name, record, folder) for name, record in results.items())

    readme = root / 'README.md'
    return {
        readme: replace_between(readme.read_text(), tables('docs/results/')),
        root / 'docs/results/README.md': f'{HEADING}\n\n{tables("")}\n',
        **({root / 'docs/model_zoo.md': zoo_page(zoo)} if zoo else {}),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--root', type=Path, default=ROOT, help='the repository (%(default)s)')
    return parser.parse_args()


def main() -> None:
    root = parse_args().root
    for path, text in rendered(root).items():
        path.write_text(text)
        print(f'{path.relative_to(root)} written')


if __name__ == '__main__':
    sys.exit(run_cli(main))
