"""What a process does for one cell: train to the end, from the last checkpoint if there is one, then score.

Called as `python -m mmgfnuc.benchmark.worker FOLDER`, the folder holding the `config.py` of the cell.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch

from mmgfnuc.engine import launch
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.engine.provenance import commit, hardware, versions
from mmgfnuc.files import whole_file
from mmgfnuc.inference.checkpoint import read_checkpoint


def run_cell(folder: Path) -> None:
    """Train and score the cell of a folder; `done.json`, written last, says that it is done, and where and when."""
    steps = launch.load_config(str(folder / 'config.py')).train_cfg.max_iters
    checkpoint = folder / f'iter_{steps}.pth'
    if not checkpoint.is_file():
        cfg = launch.load_config(str(folder / 'config.py'), work_dir=str(folder))
        launch.find_resume(cfg, 'auto')
        launch.train(cfg)
    cfg = launch.load_config(str(folder / 'config.py'), work_dir=str(folder))
    start = time.monotonic()
    launch.test(cfg, str(checkpoint))
    record = {
        'train_seconds': read_checkpoint(checkpoint)['meta']['train_seconds'],
        'test_seconds': time.monotonic() - start,
        'peak_mb': round(_peak_bytes() / 10**6),
        'commit': commit(),
        'versions': versions(),
        'hardware': hardware(),
    }
    with whole_file(folder / 'done.json') as file:
        file.write_text(json.dumps(record, indent=1) + '\n')


def _peak_bytes() -> int:
    """Most memory that this process has held: of a GPU its tensors, else all of it."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == '__main__':
    sys.exit(run_cli(lambda: run_cell(Path(sys.argv[1]))))
