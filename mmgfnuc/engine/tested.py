"""Which checkpoint and data the reports in a folder are of: a mark, written last, without which they are not read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.per_image_metric import TESTED
from mmgfnuc.files import read_json, write_text


def write_tested(folder: Path, checkpoint: Path, dataset: Mapping[str, Any], reports: Sequence[str]) -> None:
    """Say what the scores in a folder are of.

    Args:
        folder: of the reports.
        checkpoint: that was tested.
        dataset: its config.
        reports: files that this test has written.
    """
    data = {'data_root': str(dataset['data_root']), 'split': dataset.get('split'), 'part': dataset.get('part')}
    record = {'checkpoint': checkpoint.name, 'sha256': file_sha256(checkpoint), **data, 'reports': list(reports)}
    write_text(folder / TESTED, json.dumps(record, indent=1) + '\n')


def read_tested(folder: Path, checkpoint: Path) -> dict[str, Any]:
    """Read what the scores in a folder are of.

    Raises:
        UserError: there are none, the mark is damaged, or they are those of another checkpoint.
    """
    fix = f'test again: mmgfnuc test CONFIG {checkpoint}'
    if not (folder / TESTED).is_file():
        raise UserError(f'{folder} holds no scores that are complete; {fix}')
    tested = read_json(folder / TESTED, fix, checkpoint=str, sha256=str, reports=list)
    if tested['sha256'] != file_sha256(checkpoint):
        raise UserError(f'{folder} holds the scores of another {tested["checkpoint"]}; {fix}')
    return tested


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
