"""Writes predictions and pictures while a checkpoint is tested."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from mmgfnuc.datasets.images import read_image
from mmgfnuc.datasets.transforms.formatting import IGNORE_LABEL
from mmgfnuc.inference.results import write_label_map, write_mask, write_png
from mmgfnuc.registry import HOOKS
from mmgfnuc.visualization.errors import draw_panels


@HOOKS.register_module()
class PredictionHook(Hook):
    """After each tested image, write its predicted nuclei and/or a picture of the errors.

    Args:
        out_dir: for semantic masks `<id>.png`, 0 background and 255 nucleus, types evenly between; and label maps
            `labels/<id>.png`, as the canonical form of a dataset has them.
        show_dir: for pictures `<id>.png`: tissue, truth, prediction and errors, see `draw_panels`.
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
            labels = sample.pred_instance_map.data[0]
            if self.out_dir:
                semantic = _map(sample.pred_sem_seg).astype(np.uint8)
                write_mask(self.out_dir / f'{sample.img_id}.png', semantic, len(sample.pred_probabilities.data))
                write_label_map(self.out_dir / 'labels', sample.img_id, labels)
            if self.show_dir:
                ignore = _map(sample.gt_sem_seg) == IGNORE_LABEL
                image = read_image(Path(sample.img_path))
                picture = draw_panels(image, _map(sample.gt_instance_map), labels, ignore)
                write_png(self.show_dir / f'{sample.img_id}.png', picture)


def _map(pixel_data: object) -> np.ndarray:
    """(1, H, W) tensor -> (H, W) array."""
    return pixel_data.data[0].cpu().numpy()  # type: ignore[attr-defined]
