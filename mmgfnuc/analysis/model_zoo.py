"""The record of a run of benchmarks/unets.py, and docs/model_zoo.md, made from such records."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mmgfnuc.engine.provenance import commit, hardware, versions

from .records import write_record

KIND = 'unets'
HEADING = """# Model zoo

The U-Nets that `mmgfnuc.create_model(unet=...)` takes, at the defaults of their presets. Made from the records in
`docs/results/` by `make table`."""
LINKS = {
    r'arXiv:(\d{4}\.\d{4,5})': 'https://arxiv.org/abs/',
    r'doi:(10\.\d{4,}/[^\s,;:()]*[^\s,;:().])': 'https://doi.org/',
}
COLUMNS = (
    'U-Net',
    'parameters (M)',
    'MACs (G)',
    'levels',
    'training step (ms)',
    'inference (ms)',
    'peak training memory (MB)',
    'what it is, source',
)
# Key of a ratio -> what it says. The same key with `_infer` holds it for inference.
RATIOS = {
    'ratio_vs_mmseg': "images/s over those of MMSegmentation's UNet, made the same network",
    'ratio_vs_smp': "images/s x MACs over those of segmentation-models-pytorch's Unet with vgg13_bn",
    'ratio_channels_last': 'images/s with weights and images in channels_last over those of the network as built',
    'ratio_bf16': 'images/s under bfloat16 autocast over those in float32',
    'ratio_bf16_channels_last': 'images/s with both over those with neither',
}


def make_zoo_record(target: Path, command: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what benchmarks/unets.py measured, with where it was measured.

    Args:
        target: file of the record, in docs/results/.
        command: that measured it.
        settings: of the measurement: `size` (pixels), `batch`, `repeats`, `pairs`, `threads`, `device`, `dtype`,
            `channels_last`.
        rows: as the script prints them, one for each U-Net.
    """
    record = {
        'kind': KIND,
        'title': 'Parameters, MACs, speed and memory of the U-Nets',
        'commands': [command],
        'date': datetime.now().date().isoformat(),
        'versions': versions(),
        'hardware': hardware(),
        'commit': commit(),
        'settings': dict(settings),
        'rows': [dict(row) for row in rows],
    }
    write_record(target, record)


def zoo_page(records: Sequence[Mapping[str, Any]]) -> str:
    """Render docs/model_zoo.md: the table of every record, and after it the ratios of those that hold some."""
    tables = [_table(record) for record in records if 'ratio_vs_mmseg' not in record['rows'][0]]
    ratios = [_ratios(record) for record in records if 'ratio_vs_mmseg' in record['rows'][0]]
    return '\n\n'.join([HEADING, *tables, *ratios]) + '\n'


def _table(record: Mapping[str, Any]) -> str:
    return f"""{_lines(COLUMNS, [_cells(row) for row in record['rows']])}

MACs are the multiply-adds of one 256x256 image, of convolutions, matrix products and attention. A training step is
forward, loss, backward and Adam; its memory holds weights, gradients, Adam's state and activations. Times (medians of
{record['settings']['repeats']}) and memory are of this run only, and compare its rows: {_conditions(record)}

{_command(record)}"""


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        f'`{row["unet"]}`',
        f'{row["parameters"] / 1e6:.1f}',
        f'{row["macs"] / 1e9:.1f}',
        str(row['levels']),
        f'{row["train_ms"]:.0f}',
        f'{row["infer_ms"]:.0f}',
        f'{row["peak_mb"]}',
        _linked(row['source']),
    ]


def _ratios(record: Mapping[str, Any]) -> str:
    (row,) = record['rows']
    cells = [[text, f'{row[key]:.2f}', f'{row[f"{key}_infer"]:.2f}'] for key, text in RATIOS.items()]
    return f"""## Speed of `{row['unet']}`

{_lines(('ratio; above 1 the first is faster', 'training step', 'inference'), cells)}

Medians of {record['settings']['pairs']} pairs of runs, in turn in one process: {_conditions(record)}

{_command(record)}"""


def _conditions(record: Mapping[str, Any]) -> str:
    settings = record['settings']
    size, threads = settings['size'], settings['threads']
    # The hardware names every GPU of the machine.
    device = 'the GPU of' if settings['device'] == 'cuda' else f'{threads} CPU thread{"s" * (threads > 1)} of'
    numbers = {'fp32': 'float32', 'bf16': 'bfloat16 autocast'}[settings['dtype']]
    layout = ', channels_last' if settings['channels_last'] else ''
    return (
        f'batches of {settings["batch"]}, {size}x{size} pixels, {numbers}{layout}, on {device} {record["hardware"]}; '
        f'PyTorch {record["versions"]["torch"]}, {record["date"]}.'
    )


def _command(record: Mapping[str, Any]) -> str:
    return '\n'.join(['```', *record['commands'], '```'])


def _lines(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ['---'] * len(heading), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _linked(source: str) -> str:
    """Make links of arXiv numbers and DOIs."""
    for pattern, address in LINKS.items():
        source = re.sub(pattern, rf'[\g<0>]({address}\1)', source)
    return source
