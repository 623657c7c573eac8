"""Rewrite the generated pages: results of README.md, and of docs/: results/README.md, model_zoo.md, datasets/README.md,
stain.md (speeds), instances.md (losses and speeds), foundation_encoders.md.

They are made from the records and the studies in docs/results/, the catalogue of foundation encoders and the converters
of datasets.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from mmgfnuc.analysis import markdown_table, read_records
from mmgfnuc.analysis.comparison import comparison_table, comparisons
from mmgfnuc.analysis.data_loading import speed_section
from mmgfnuc.analysis.datasets import datasets_page
from mmgfnuc.analysis.foundation_encoders import encoders_page
from mmgfnuc.analysis.instance_speed import lost_section, speed_sections
from mmgfnuc.analysis.measurements import DATA_LOADING, INSTANCE_METRICS, PERFECT_MAPS, POSTPROCESS, UNETS
from mmgfnuc.analysis.model_zoo import zoo_page
from mmgfnuc.analysis.studies import read_studies, study_section
from mmgfnuc.analysis.tables import has_instances, instance_summary, picture, replace_between, summary_table
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.files import write_text

HEADING = '# Results\n\nMade from the records of this folder by `make table`.'
ROOT = Path(__file__).resolve().parents[2]

INSTANCE_KINDS = (PERFECT_MAPS, POSTPROCESS, INSTANCE_METRICS)

Results = dict[str, dict[str, Any]]


def rendered(root: Path) -> dict[Path, str]:
    """Text of each generated file."""
    records = read_records(root / 'docs/results')
    zoo, loading = of_kind(records, UNETS), of_kind(records, DATA_LOADING)
    results = {name: record for name, record in records.items() if 'kind' not in record}
    studies = read_studies(root / 'docs/results')
    readme, stain, instances = root / 'README.md', root / 'docs/stain.md', root / 'docs/instances.md'
    return {
        readme: replace_between(readme.read_text('utf-8'), readme_section(results, studies)),
        root / 'docs/results/README.md': f'{HEADING}\n\n{results_page(results, studies)}\n',
        **({root / 'docs/model_zoo.md': zoo_page(zoo)} if zoo else {}),
        root / 'docs/foundation_encoders.md': encoders_page(records.values()),
        root / 'docs/datasets/README.md': datasets_page(),
        **({stain: replace_between(stain.read_text('utf-8'), speed_section(loading[0]))} if loading else {}),
        **({instances: instances_page(instances, records)} if of_kind(records, *INSTANCE_KINDS) else {}),
    }


def instances_page(page: Path, records: Results) -> str:
    """Fill in what post-processing loses, and how fast it and the scores are."""
    lost = lost_section(of_kind(records, PERFECT_MAPS))
    text = replace_between(page.read_text('utf-8'), lost, '<!-- lost -->', '<!-- /lost -->')
    return replace_between(text, speed_sections(of_kind(records, POSTPROCESS, INSTANCE_METRICS)))


def of_kind(records: Results, *kinds: str) -> list[dict[str, Any]]:
    """Records of these kinds, in the order of the kinds."""
    return [record for kind in kinds for record in records.values() if record.get('kind') == kind]


def readme_section(results: Results, studies: Results) -> str:
    """What studies concluded, one line for each result, another where it has instance scores, and the pictures."""
    concluded = [study_section(name, study, 'docs/results/') for name, study in studies.items()]
    pictures = [picture(record, 'docs/results/') for record in results.values() if record['picture']]
    scored = {name: record for name, record in results.items() if has_instances(record)}
    return '\n\n'.join([*concluded, summary_table(results), *([instance_summary(scored)] if scored else []), *pictures])


def results_page(results: Results, studies: Results) -> str:
    """What studies concluded, the table of each comparison of records, then that of every other record."""
    compared_with = comparisons(results)
    compared = {name for baseline, arms in compared_with.items() for name in (baseline, *arms)}
    return '\n\n'.join(
        [
            *(study_section(name, study) for name, study in studies.items()),
            *(comparison_table(results, baseline, arms) for baseline, arms in compared_with.items()),
            *(markdown_table(name, record) for name, record in results.items() if name not in compared),
        ]
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=ROOT, help='the repository (%(default)s)')
    return parser.parse_args()


def main() -> None:
    root = parse_args().root
    for path, text in rendered(root).items():
        write_text(path, text)
        print(f'{path.relative_to(root)} written')


if __name__ == '__main__':
    sys.exit(run_cli(main))
