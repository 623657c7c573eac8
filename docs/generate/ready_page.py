"""Cards of the models that come with the package, for their folders and docs/ready_models.md; and a table of them."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from records import Record

from mmgfnuc.files import read_json, whole_file
from mmgfnuc.inference.card import SCORES, make_card, read_metrics
from mmgfnuc.inference.ready import PICTURES
from mmgfnuc.visualization.markdown import code, prose, table_lines

READY = Path('mmgfnuc/models/ready')
NONE = 'This version comes without a ready model.'
FIX = 'publish the model again'
HEADING = ('model', 'scored on', *SCORES.values())


def ready_folders(root: Path) -> list[Path]:
    """Folders of the models that come with the package."""
    return sorted(path.parent for path in (root / READY).glob('*/config.json'))


def ready_cards(root: Path, speeds: Sequence[Record]) -> dict[Path, str]:
    """Text of card.md of each model; its speed is that of the record whose settings name it."""
    of_model = {record['settings'].get('model'): record for record in speeds}
    return {
        folder / 'card.md': make_card(
            read_json(folder / 'config.json', FIX, name=str),
            read_metrics(folder / 'metrics.json'),
            of_model.get(folder.name),
        )
        for folder in ready_folders(root)
    }


def cards_section(cards: Mapping[Path, str]) -> str:
    """Cards as sections of a page of docs/."""
    return '\n\n'.join(_as_section(path.parent.name, card) for path, card in cards.items()) or NONE


def _as_section(name: str, card: str) -> str:
    deeper = re.sub(r'^(#+ )', r'#\1', card, flags=re.MULTILINE)
    return deeper.replace(f']({PICTURES}/', f'](ready/{name}/').strip()


def scores_table(root: Path) -> str:
    """One line for each model: what it was scored on, and the scores."""
    rows = [list(_row(folder)) for folder in ready_folders(root)]
    return table_lines(HEADING, rows) if rows else NONE


def _row(folder: Path) -> Iterator[str]:
    metrics = read_metrics(folder / 'metrics.json')
    yield code(folder.name)
    data = ', '.join(prose(data['name']) for data in metrics['data'])
    yield f'{metrics["images"]} images of {len(metrics["groups"])} groups that the scored model had not seen ({data})'
    for name in SCORES:
        score = metrics['scores'][name]
        ends = score['interval']
        yield f'{score["mean"]:.3f}' + (f' ({ends[0]:.3f} to {ends[1]:.3f})' if ends else '')


def copy_pictures(root: Path) -> list[Path]:
    """Copy the pictures of all cards to docs/ready/, where the site finds them; return their paths."""
    copied = []
    shutil.rmtree(root / 'docs/ready', ignore_errors=True)
    for folder in ready_folders(root):
        for picture in sorted((folder / PICTURES).glob('*.jpg')):
            copied.append(root / 'docs/ready' / folder.name / picture.name)
            with whole_file(copied[-1]) as file:
                shutil.copyfile(picture, file)
    return copied
