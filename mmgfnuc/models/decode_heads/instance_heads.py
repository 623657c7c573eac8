"""Heads that give nuclei, not only foreground: any decode head of the zoo, and what divides touching nuclei.

All of them predict the classes (background, nucleus or its types) and, but for `SemanticHead`, auxiliary maps besides.
A post-processor of `mmgfnuc.postprocess`, named by config, makes nuclei of both.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from numpy.typing import NDArray
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import resize
from mmgfnuc.models.layers.building import build_part
from mmgfnuc.registry import MODELS, TASK_UTILS

from .base import PyramidDecodeHead
from .building import build_decoder

BOUNDARY = 2
# Settings of a decode head that belong to its classes.
OF_CLASSES = {'num_classes', 'out_channels', 'loss_decode', 'sampler', 'ignore_index'}


class InstanceHead(BaseModule):
    """The classes of every pixel, and auxiliary maps by which touching nuclei are divided.

    Args:
        decoder: registry config of a decode head, of this project or of MMSegmentation, for the classes. It gives one
            map of softmax logits.
        in_channels: channels of each level, shallow first; the segmentor gives them.
        in_strides: image pixels per pixel of each level; the segmentor gives them.
        num_classes: classes of the truth: background, nucleus (or more nucleus types); by default those of `decoder`.
        postprocess: registry config of the post-processor, which makes nuclei of the maps; by default that of the head.

    Shape:
        level i: (B, in_channels[i], H_i, W_i) -> maps (B, K + M, h, w), the size that `decoder` gives; K logits of the
        classes come first, then M auxiliary maps

    Raises:
        UserError: `num_classes` is given twice and differs; the decoder or the post-processor does not fit the head;
            training samples lack the map that the head learns, or have more classes.
    """

    # Channels of the auxiliary maps; the transform of the training pipeline that makes their truth, under `key` of a
    # sample, which the launcher adds; the post-processor.
    num_auxiliary: ClassVar[int]
    target: ClassVar[dict | None] = None
    post_processor: ClassVar[str]

    def __init__(
        self,
        decoder: dict,
        in_channels: Sequence[int],
        in_strides: Sequence[int] | None = None,
        num_classes: int | None = None,
        postprocess: dict | None = None,
    ) -> None:
        super().__init__()
        own = decoder.get('num_classes')
        if num_classes is not None and own not in (None, num_classes):
            raise UserError(f'num_classes={num_classes} of the head, {own} of its decoder; give one of them')
        changes = {} if num_classes is None else {'num_classes': num_classes}
        self.decoder = self._build_decoder({**decoder, **changes}, in_channels, in_strides)
        if getattr(self.decoder, 'out_channels', None) == 1:
            raise UserError('out_channels=1 of the decoder is a sigmoid; give softmax channels, num_classes of them')
        self.postprocess = build_part(postprocess or dict(type=self.post_processor), TASK_UTILS)
        self.maps_taken = getattr(self.postprocess, 'num_auxiliary', self.num_auxiliary)
        if self.maps_taken not in (0, self.num_auxiliary):
            raise UserError(
                f'{type(self.postprocess).__name__} takes {self.maps_taken} auxiliary map(s), {type(self).__name__} '
                f'predicts {self.num_auxiliary}; give postprocess=dict(type={self.post_processor}), or '
                'mmgfnuc.WatershedInstances'
            )

    def _build_decoder(self, config: dict, in_channels: Sequence[int], in_strides: Sequence[int] | None) -> BaseModule:
        return build_decoder(config, in_channels, in_strides)

    @property
    def num_classes(self) -> int:
        """Softmax channels, the background counted in."""
        return self.decoder.num_classes

    @property
    def ignore_index(self) -> int:
        """Label of pixels that do not count."""
        return self.decoder.ignore_index

    @property
    def out_channels(self) -> int:
        """Channels of what `predict` gives."""
        return self.num_classes

    @property
    def align_corners(self) -> bool:
        """How logits are resized."""
        return self.decoder.align_corners

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        return self.decoder(inputs)

    def predict(self, inputs: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: dict | None = None) -> Tensor:
        """Return logits of the classes at image size: what MMSegmentation's own segmentor asks of a head.

        Shape:
            level i: (B, in_channels[i], H_i, W_i) -> (B, K, H, W), K classes
        """
        return self.decoder.predict_by_feat(self.class_logits(self(inputs)), batch_img_metas)

    def class_logits(self, maps: Tensor) -> Tensor:
        """Take the logits of the classes out of the maps.

        Shape:
            (B, K + M, H, W) -> (B, K, H, W)
        """
        return maps[:, : self.num_classes]

    def activate(self, maps: Tensor) -> Tensor:
        """Turn logits into probabilities: what may be averaged over tiles.

        Shape:
            (B, K + M, H, W) -> (B, K + M, H, W): K probabilities of the classes, M auxiliary maps, float32
        """
        logits, auxiliary = maps.float().split([self.num_classes, self.num_auxiliary], dim=1)
        return torch.cat([logits.softmax(1), auxiliary], dim=1)

    def flip(self, maps: Tensor, axis: int) -> Tensor:
        """Mirror maps as `activate` gives them, so that they are those of the mirrored image.

        Args:
            maps: of images.
            axis: -1 swaps left and right, -2 top and bottom.

        Shape:
            (B, K + M, H, W) -> (B, K + M, H, W)
        """
        return maps.flip(axis)

    def nuclei(self, foreground: Tensor, auxiliary: Tensor, mpp: float | None) -> NDArray[np.int32]:
        """Divide the foreground of one image into nuclei, on the CPU.

        Args:
            foreground: probability.
            auxiliary: maps as `activate` gives them.
            mpp: size of a pixel in micrometres, where it is known.

        Shape:
            foreground (H, W), auxiliary (M, H, W) -> (H, W) int32, 0 = background
        """
        arrays = [foreground]
        if self.maps_taken:
            arrays.append(auxiliary[0] if self.maps_taken == 1 else auxiliary)
        return self.postprocess(*(array.detach().float().cpu().numpy() for array in arrays), mpp=mpp)

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: list, train_cfg: dict | None = None) -> dict:
        """Losses of a training batch: those of `decoder`, and of the auxiliary maps where there are any."""
        self._check_classes(torch.stack([sample.gt_sem_seg.data for sample in batch_data_samples]))
        return self._losses(inputs, batch_data_samples, train_cfg)

    def _losses(self, inputs: Sequence[Tensor], samples: list, train_cfg: dict | None) -> dict:
        return self.decoder.loss(inputs, samples, train_cfg)

    def _check_classes(self, classes: Tensor) -> None:
        largest = int(classes.where(classes != self.ignore_index, 0).max())
        if largest >= self.num_classes:
            raise UserError(
                f'the truth has class {largest}, the head num_classes={self.num_classes}; set num_classes of the head '
                'to the number of classes of the data set, background included'
            )

    def _truth(self, samples: Sequence[SegDataSample]) -> Tensor:
        """Stack the maps that the auxiliary maps are learned from."""
        target = self.target or {}
        key = target['key']
        if any(key not in sample for sample in samples):
            raise UserError(
                f'{type(self).__name__} learns from {key}, which the training samples lack; put {target} before '
                'PackNucleiInputs in the training pipeline, as mmgfnuc train does'
            )
        truth = torch.stack([sample.get(key).data for sample in samples])
        size, labelled = tuple(truth.shape[-2:]), tuple(samples[0].gt_sem_seg.data.shape[-2:])
        if size != labelled:
            raise UserError(
                f'{key} has {size[0]}x{size[1]} pixels, gt_sem_seg {labelled[0]}x{labelled[1]}: the data preprocessor '
                'has padded the latter alone; crop to its size in the pipeline'
            )
        return truth


@MODELS.register_module()
class SemanticHead(InstanceHead):
    """Foreground alone; nuclei that touch are divided where the foreground is narrow.

    This is what the segmentor makes of a plain decode head.

    Source: the watershed of the distance transform is the field's common recipe.
    """

    num_auxiliary = 0
    post_processor = 'mmgfnuc.WatershedInstances'


@MODELS.register_module()
class BoundaryHead(InstanceHead):
    """Background, inside and boundary in one softmax; nuclei are divided along the boundaries.

    With nucleus types the insides of each type have a channel of their own, and the boundaries of all share one. The
    auxiliary map is the probability of the boundary. The truth is that of BoundaryTarget.

    Source: Kumar et al. 2017, doi:10.1109/TMI.2017.2677499 (the three classes).
    """

    num_auxiliary = 1
    target = dict(type='mmgfnuc.BoundaryTarget', key='gt_boundary_map')
    post_processor = 'mmgfnuc.BoundaryInstances'

    def _build_decoder(self, config: dict, in_channels: Sequence[int], in_strides: Sequence[int] | None) -> BaseModule:
        return build_decoder(config, in_channels, in_strides, num_classes=config.get('num_classes', 2) + 1)

    @property
    def num_classes(self) -> int:
        """Classes of the truth, the background counted in; the decoder has the boundary besides."""
        return self.decoder.num_classes - 1

    def activate(self, maps: Tensor) -> Tensor:
        """Turn logits into the probabilities of the classes, wherever in the nucleus, and that of the boundary."""
        maps = maps.float()
        probabilities = maps.softmax(1)
        background, boundary = probabilities[:, :1], probabilities[:, -1:]
        types = maps[:, 1:-1].softmax(1) * (1 - background)
        return torch.cat([background, types, boundary], dim=1)

    def class_logits(self, maps: Tensor) -> Tensor:
        """Logits of the classes, wherever in the nucleus: what the boundary has is shared among the types."""
        types = maps[:, 1:-1]
        nucleus = maps[:, 1:].logsumexp(1, keepdim=True)
        return torch.cat([maps[:, :1], types.log_softmax(1) + nucleus], dim=1)

    def _losses(self, inputs: Sequence[Tensor], samples: list, train_cfg: dict | None) -> dict:
        boundaries = self._truth(samples) == BOUNDARY
        with_boundary = [
            SegDataSample(gt_sem_seg=PixelData(data=self._with_boundary(sample.gt_sem_seg.data, boundary)))
            for sample, boundary in zip(samples, boundaries, strict=True)
        ]
        return self.decoder.loss(inputs, with_boundary, train_cfg)

    def _with_boundary(self, classes: Tensor, boundary: Tensor) -> Tensor:
        return classes.where(~boundary | (classes == self.ignore_index), self.num_classes)


class AuxiliaryDecoderHead(InstanceHead):
    """Two decoders alike, one for the classes, the other for the auxiliary maps.

    Args:
        decoder: registry config of a decode head; the second decoder is built from the same, but for what belongs to
            classes.
        loss_auxiliary: registry config of the loss of the auxiliary maps; by default that of the head.
        kwargs: see InstanceHead.
    """

    # Loss of the auxiliary maps.
    learned_by: ClassVar[str | type]

    def __init__(
        self,
        decoder: dict,
        in_channels: Sequence[int],
        in_strides: Sequence[int] | None = None,
        loss_auxiliary: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(decoder, in_channels, in_strides, **kwargs)
        classes_only = OF_CLASSES.union(getattr(self.decoder, 'classes_only', ()))
        settings = {key: value for key, value in decoder.items() if key not in classes_only}
        # MMSegmentation warns of a single channel without a threshold.
        self.auxiliary_decoder = build_decoder(
            settings, in_channels, in_strides, num_classes=self.num_auxiliary, threshold=0.5
        )
        self.loss_auxiliary = build_part(loss_auxiliary or dict(type=self.learned_by))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        return torch.cat([self.decoder(inputs), self.auxiliary_decoder(inputs)], dim=1)

    def _losses(self, inputs: Sequence[Tensor], samples: list, train_cfg: dict | None) -> dict:
        """Those of the auxiliary maps and their side outputs are under the `loss_name` of the loss, and `aux_i.`."""
        truth = self._truth(samples)
        classes = torch.stack([sample.gt_sem_seg.data for sample in samples])
        losses = self.decoder.loss(inputs, samples, train_cfg)
        decoder = self.auxiliary_decoder
        outputs = decoder.outputs(inputs) if isinstance(decoder, PyramidDecodeHead) else [decoder(inputs)]
        for number, output in enumerate(outputs):
            prediction = resize(output, truth.shape[-2:])
            key = self.loss_auxiliary.loss_name
            losses[f'aux_{number}.{key}' if number else key] = self.loss_auxiliary(
                prediction, truth, classes, self.ignore_index
            )
        return losses


@MODELS.register_module()
class DualDecoderHead(AuxiliaryDecoderHead):
    """Classes and, by a second decoder, the distance map: how deep in its nucleus a pixel lies.

    Source: Mahbod et al. 2022, doi:10.3389/fmed.2022.978146.
    """

    num_auxiliary = 1
    target = dict(type='mmgfnuc.DistanceTarget', key='gt_distance_map')
    post_processor = 'mmgfnuc.DistanceInstances'
    learned_by = 'mmgfnuc.DistanceLoss'


@MODELS.register_module()
class HoverHead(AuxiliaryDecoderHead):
    """Classes and, by a second decoder, where in its nucleus a pixel lies, horizontally and vertically.

    HoVer-Net has a third decoder for types; here they are classes.

    Source: Graham et al. 2019, doi:10.1016/j.media.2019.101563.
    """

    num_auxiliary = 2
    target = dict(type='mmgfnuc.HoverTarget', key='gt_hover_map')
    post_processor = 'mmgfnuc.HoverInstances'
    learned_by = 'mmgfnuc.HoverLoss'

    def flip(self, maps: Tensor, axis: int) -> Tensor:
        """Mirror maps: what lay to the left of the centre of its nucleus, by the map negative, lies to the right."""
        mirrored = super().flip(maps, axis).clone()
        mirrored[:, self.num_classes + (axis == -2)] *= -1
        return mirrored
