"""Records of what the scripts of benchmarks/ measure, and what the pages made from them have in common."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgfnuc.files import read_json

Record = Mapping[str, Any]

KEYS = dict(kind=str, title=str, commands=list, date=str, versions=dict, hardware=str, settings=dict, rows=list)
NUMBERS = {'fp32': 'float32', 'bf16': 'bfloat16 autocast'}
LINKS = {
    r'arXiv:(\d{4}\.\d{4,5})': 'https://arxiv.org/abs/',
    r'doi:(10\.\d{4,}/[^\s,;:()]*[^\s,;:().])': 'https://doi.org/',
}


def read_records(folder: Path) -> dict[str, Record]:
    """Return all records of a folder by name, sorted.

    Raises:
        UserError: a file is damaged.
    """
    fix = 'get the file of the repository again, or delete it'
    return {path.stem: read_json(path, fix, **KEYS) for path in sorted(folder.glob('*.json'))}


def of_kind(records: Mapping[str, Record], *kinds: str) -> list[Record]:
    """Records of these kinds, in the order of the kinds."""
    return [record for kind in kinds for record in records.values() if record['kind'] == kind]


def conditions(record: Record) -> str:
    """Say under what conditions a record was measured."""
    settings = record['settings']
    size, threads = settings['size'], settings['threads']
    # The hardware names every GPU of the machine.
    device = 'the GPU of' if settings['device'] == 'cuda' else f'{threads} CPU thread{"s" * (threads > 1)} of'
    numbers = f', {NUMBERS[settings["dtype"]]}' if 'dtype' in settings else ''
    layout = ', no network in channels_last' if settings.get('plain_layout') else ''
    return (
        f'batches of {settings["batch"]}, {size}x{size} pixels{numbers}{layout}, on {device} {record["hardware"]}; '
        f'PyTorch {record["versions"]["torch"]}, {record["date"]}.'
    )


def command_block(record: Record) -> str:
    """Show the commands that made a record."""
    return '\n'.join(['```', *record['commands'], '```'])


def linked(source: str) -> str:
    """Make links of arXiv numbers and DOIs."""
    for pattern, address in LINKS.items():
        source = re.sub(pattern, rf'[\g<0>]({address}\1)', source)
    return source
