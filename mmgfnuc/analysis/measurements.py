"""Records of what the scripts of benchmarks/ measure, and what their pages have in common."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mmgfnuc.engine.provenance import commit, hardware, versions

from .records import write_record

UNETS, SAM_ENCODER, FEATURE_CACHE = 'unets', 'sam_encoder', 'feature_cache'
DATA_LOADING, INSTANCE_METRICS = 'data_loading', 'instance_metrics'
POSTPROCESS, PERFECT_MAPS = 'postprocess', 'perfect_maps'
TITLES = {
    UNETS: 'Parameters, MACs, speed and memory of the U-Nets',
    SAM_ENCODER: "SAM's image encoder against segment-anything's own: speed and memory",
    FEATURE_CACHE: 'Training with features of a frozen encoder that are kept on disk',
    DATA_LOADING: 'Reading, augmentation and stain transforms: images per second of a worker',
    POSTPROCESS: 'From instance maps to nuclei: speed of the decoders',
    PERFECT_MAPS: 'What is lost where a head makes no mistake',
    INSTANCE_METRICS: 'AJI, AJI+ and PQ of two label maps: time',
}
NUMBERS = {'fp32': 'float32', 'bf16': 'bfloat16 autocast'}


def make_measurement(
    target: Path, kind: str, command: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write what a script measured, with where it was measured.

    Args:
        target: file of the record, in docs/results/.
        kind: one of TITLES; says which page shows it.
        command: that measured it.
        settings: of the measurement: `size` (pixels), `batch`, `pairs`, `threads`, `device` and what else there is.
        rows: as the script prints them.
    """
    record = {
        'kind': kind,
        'title': TITLES[kind],
        'commands': [command],
        'date': datetime.now().date().isoformat(),
        'versions': versions(),
        'hardware': hardware(),
        'commit': commit(),
        'settings': dict(settings),
        'rows': [dict(row) for row in rows],
    }
    write_record(target, record)


def conditions(record: Mapping[str, Any]) -> str:
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


def command_block(record: Mapping[str, Any]) -> str:
    """Show the commands that made a record."""
    return '\n'.join(['```', *record['commands'], '```'])
