"""Writes predictions and pictures while a checkpoint is tested."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from mmgfnuc.datasets.canonical import read_image
from mmgfnuc.inference.overlay import draw_overlay
from mmgfnuc.inference.writers import write_mask, write_png
from mmgfnuc.registry import HOOKS


@HOOKS.register_module()
class PredictionHook(Hook):
    """After each tested image, write its predicted mask and/or a picture with contours of truth and prediction.

    Args:
        out_dir: for masks `<id>.png`, 0 background and 255 nucleus.
        show_dir: for pictures `<id>.png`, truth green, prediction yellow.
    """

    priority = 'LOW'

    def __init__(self, out_dir: str | None = None, show_dir: str | None = None) -> None:
        self.out_dir = out_dir and Path(out_dir)
        self.show_dir = show_dir and Path(show_dir)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Write one batch."""
        for sample in outputs or ():
            prediction = _map(sample.pred_sem_seg)
            if self.out_dir:
                write_mask(self.out_dir / f'{sample.img_id}.png', prediction, len(sample.seg_logits.data))
            if self.show_dir:
                image = read_image(Path(sample.img_path))
                picture = draw_overlay(image, prediction, _map(sample.gt_sem_seg))
                write_png(self.show_dir / f'{sample.img_id}.png', picture)


def _map(pixel_data: object) -> np.ndarray:
    """(1, H, W) tensor -> (H, W) uint8."""
    return pixel_data.data[0].cpu().numpy().astype(np.uint8)  # type: ignore[attr-defined]
