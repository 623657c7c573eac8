"""A trained run, loaded to be looked at: its model and the images that it was scored on."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmseg.structures import SegDataSample
from torch import Tensor

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.inference import NucleiInferencer
from mmgfnuc.registry import DATASETS

from .folders import read_config


@dataclass(frozen=True)
class TrainedRun:
    """A run after its training.

    Attributes:
        model: FusionSegmentor with the weights of the last step, in evaluation mode.
        data: the test part, through the test pipeline.
    """

    model: Any
    data: NucleiDataset

    def load(self, index: int) -> tuple[Tensor, SegDataSample]:
        """Read an image of the test part as the model takes it, and its truth.

        Shape:
            - images: (1, 3, H, W), or (1, 6, H, W) with the partner image, in [0, 1]
        """
        packed = self.data[index]
        batch = {'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}
        batch = self.model.data_preprocessor(batch)
        return batch['inputs'], batch['data_samples'][0]


def load_trained(folder: Path) -> TrainedRun:
    """Load the last checkpoint of the folder of a run.

    Raises:
        UserError: the checkpoint, the data or a weight file is missing, damaged, or does not fit.
    """
    config = read_config(folder)
    checkpoint = folder / f'iter_{config.train_cfg.max_iters}.pth'
    with warnings.catch_warnings():
        # Random weights are meant, and in the checkpoint.
        warnings.filterwarnings('ignore', message='.* has RANDOM weights')
        model = NucleiInferencer(checkpoint, config).model
    return TrainedRun(model, DATASETS.build(config.test_dataloader.dataset))
