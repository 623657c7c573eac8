"""What every script of this folder ends with: one JSON line, and with --out a record of it for the pages of docs/."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mmgfnuc.engine.provenance import commit, hardware, versions
from mmgfnuc.files import write_json

# Kind of record, by which docs/generate/ finds it -> title.
TITLES = {
    'unets': 'Parameters, MACs, speed and memory of the U-Nets',
    'sam_encoder': "SAM's image encoder against segment-anything's own: speed and memory",
    'feature_cache': 'Training with features of a frozen encoder that are kept on disk',
    'data_loading': 'Reading, augmentation and stain transforms: images per second of a worker',
    'postprocess': 'From instance maps to nuclei: speed of the post-processors',
    'perfect_maps': 'What is lost where a head makes no mistake',
    'predict': 'From image files to tables of nuclei: speed and memory of the ready model',
    'domain': 'Images that a model was not made for: which are told',
    'instance_metrics': 'AJI, AJI+ and PQ of two label maps: time',
}


def report(
    kind: str, result: Mapping[str, Any] | Sequence[Mapping[str, Any]], settings: Mapping[str, Any], out: Path | None
) -> None:
    """Print what a script measured as one line, and write it with where it was measured.

    Args:
        kind: one of TITLES.
        result: a row, or a list of rows.
        settings: of the measurement: `size` (pixels), `batch`, `pairs`, `threads`, `device` and what else there is.
        out: file of the record; None writes none.
    """
    print(json.dumps(result))
    if out is None:
        return
    record = {
        'kind': kind,
        'title': TITLES[kind],
        'commands': [shlex.join(['python', f'benchmarks/{Path(sys.argv[0]).name}', *sys.argv[1:]])],
        'date': datetime.now().date().isoformat(),
        'versions': versions(),
        'hardware': hardware(),
        'commit': commit(),
        'settings': dict(settings),
        'rows': [result] if isinstance(result, Mapping) else list(result),
    }
    write_json(out, record)
