"""Which checkpoint and data the reports in a folder belong to: a mark, written last; without it they are not read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.per_image_metric import TESTED
from mmgfnuc.files import file_sha256, read_json, write_json


def write_tested(folder: Path, checkpoint: Path, dataset: Mapping[str, Any], reports: Sequence[str]) -> None:
    """Record what the scores in a folder belong to.

    Args:
        folder: of the reports.
        checkpoint: that was tested.
        dataset: its config.
        reports: files that this test has written.
    """
    data = {'data_root': str(dataset['data_root']), 'split': dataset.get('split'), 'part': dataset.get('part')}
    record = {'checkpoint': checkpoint.name, 'sha256': file_sha256(checkpoint), **data, 'reports': list(reports)}
    write_json(folder / TESTED, record)


def read_tested(folder: Path, checkpoint: Path) -> dict[str, Any]:
    """Read what the scores in a folder belong to.

    Raises:
        UserError: the folder has none, the mark is damaged, or they belong to another checkpoint.
    """
    fix = f'test again: mmgfnuc test CONFIG {checkpoint}'
    if not (folder / TESTED).is_file():
        raise UserError(f'{folder} holds no scores that are complete; {fix}')
    tested = read_json(folder / TESTED, fix, checkpoint=str, sha256=str, reports=list)
    if tested['sha256'] != file_sha256(checkpoint):
        raise UserError(f'{folder} holds the scores of another {tested["checkpoint"]}; {fix}')
    return tested
