"""Rewrite the generated pages and sections: docs/{model_zoo,foundation_encoders,datasets/README}.md and the cards of
ready models as a whole; of README.md and docs/{ready_models,results/README,stain,unlike,instances}.md what stands
between their markers. The pictures of the cards are copied to docs/ready/.

They are made from the records and the studies in docs/results/, the ready models, the catalogue of foundation encoders
and the converters of datasets.
"""

import argparse
import sys
from pathlib import Path

from dataset_page import datasets_page
from domain_section import domain_section
from encoder_page import encoders_page
from instance_sections import lost_section, speed_sections
from ready_page import cards_section, copy_pictures, ready_cards, scores_table
from records import of_kind, read_records
from result_sections import read_studies, readme_section, results_section
from stain_section import speed_section
from zoo_page import zoo_page

from mmgfnuc.engine.cli import run_cli
from mmgfnuc.errors import UserError
from mmgfnuc.files import write_text

ROOT = Path(__file__).resolve().parents[2]


def rendered(root: Path) -> dict[Path, str]:
    """Text of each generated file."""
    docs = root / 'docs'
    records, studies = read_records(docs / 'results'), read_studies(docs / 'results')
    cards = ready_cards(root, of_kind(records, 'predict'))
    # Page -> name of a pair of markers -> what belongs between them.
    sections = {
        root / 'README.md': {'ready': scores_table(root), 'results': readme_section(studies)},
        docs / 'ready_models.md': {'cards': cards_section(cards)},
        docs / 'results' / 'README.md': {'results': results_section(studies, records)},
        docs / 'stain.md': {'results': speed_section(of_kind(records, 'data_loading'))},
        docs / 'unlike.md': {'domain': domain_section(of_kind(records, 'domain'))},
        docs / 'instances.md': {
            'lost': lost_section(of_kind(records, 'perfect_maps')),
            'results': speed_sections(of_kind(records, 'postprocess', 'instance_metrics')),
        },
    }
    return {
        **cards,
        docs / 'model_zoo.md': zoo_page(of_kind(records, 'unets')),
        docs / 'foundation_encoders.md': encoders_page(records),
        docs / 'datasets' / 'README.md': datasets_page(),
        **{page: fill_in(page, contents) for page, contents in sections.items()},
    }


def fill_in(page: Path, contents: dict[str, str]) -> str:
    """Text of a page with new content between each pair of markers `<!-- name -->` and `<!-- /name -->`.

    Raises:
        UserError: a marker is missing.
    """
    text = page.read_text('utf-8')
    for name, content in contents.items():
        start, end = f'<!-- {name} -->', f'<!-- /{name} -->'
        if start not in text or end not in text:
            raise UserError(f'{page} lacks the markers {start} and {end}; put each on a line of its own')
        before, rest = text.split(start, 1)
        text = f'{before}{start}\n{content}\n{end}{rest.split(end, 1)[1]}'
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=ROOT, help='the repository (%(default)s)')
    root = parser.parse_args().root
    for path, text in rendered(root).items():
        write_text(path, text)
        print(f'{path.relative_to(root)} written')
    for path in copy_pictures(root):
        print(f'{path.relative_to(root)} copied')


if __name__ == '__main__':
    sys.exit(run_cli(main))
