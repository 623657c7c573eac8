"""Wires a backbone, a foundation encoder, a fusion neck and a head."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from numpy.typing import NDArray
from torch import Tensor, nn

from mmgfnuc.errors import DivergedError, UserError
from mmgfnuc.models.backbones import StagedBackbone, build_backbone
from mmgfnuc.models.decode_heads import InstanceHead, SemanticHead, build_auxiliary_heads
from mmgfnuc.models.foundation import build_encoder
from mmgfnuc.models.layers import pad_to_multiple, reflect_to_size, resample, resize
from mmgfnuc.models.layers.building import build_part, is_part_of
from mmgfnuc.registry import MODELS

from .tiling import tiled_forward

# What `test_cfg` takes.
TEST_SETTINGS = {
    'scale': float | None,
    'mpp': float | None,
    'tile': int | None,
    'overlap': int,
    'tiles_per_batch': int,
    'flips': bool,
}
# Axes that an image is mirrored along for `flips`.
MIRRORED = ((), (-1,), (-2,), (-1, -2))
# Of the size of a pixel: scanners of one magnification differ by a few percent.
MPP_TOLERANCE = 0.05


@MODELS.register_module()
class FusionSegmentor(BaseSegmentor):
    """Local pyramid of the backbone, fused with the context of the foundation encoder, decoded to maps and nuclei.

    Images are padded on the right and below to a multiple of the backbone's deepest stride, and the logits cropped
    back: all levels then have their exact sizes, and no map is stretched against another.

    Channel counts and strides are wired here: neck and head are built with the `out_channels` and `out_strides` of the
    parts before them, so a config does not repeat them.

    Args:
        backbone: registry config, images -> local pyramid: a Backbone, or any other network that gives one, such as
            MMSegmentation's backbones (see ModuleBackbone).
        decode_head: registry config, pyramid -> maps: an instance head, or a plain decode head, which is taken as the
            decoder of a SemanticHead.
        foundation: config of the foundation encoder, see `build_encoder`; None for the arm without fusion.
        neck: registry config of the fusion neck; given if and only if `foundation` is. One that works within the
            encoder (EncoderFusionNeck) runs the backbone, which must be a StagedBackbone.
        bottleneck_dropout: probability that a channel of the deepest level is dropped in training, after the neck, or
            after the backbone where there is none. It belongs to the host, so that arms with and without fusion have it
            alike: 0.3 in the paper and its release.
        auxiliary_head: registry config of a decode head, or a list of them, which learn the classes from the pyramid
            beside `decode_head`, in training only. Their losses are under `auxiliary_head.`, or `auxiliary_head_<i>.`.
        data_preprocessor: registry config.
        partner_context: images come as (B, 6, H, W), as from a dataset with `partner_images`: the backbone sees the
            first three channels, the foundation encoder the last three, which are another image. A control: what is
            left of a gain then does not come from what the foundation encoder sees in the image.
        test_cfg: how images are predicted. `scale`: the resolution that the model was trained at, over that of the
            images (default 1; see the transform Rescale). `mpp`: micrometres per pixel of the images that `scale` and
            the post-processor are meant for; a checkpoint brings it. `tile`: larger images (after scaling) are
            predicted in tiles of this side, the size that the model was trained on; without it they are taken whole.
            Smaller ones are continued to this size by their mirror image, as RandomWarpCrop does in training: a model
            that has never seen the border of an image fails there. `overlap` of the tiles, by default a quarter of
            their side. Sizes in pixels. `tiles_per_batch`: tiles of each image that go through the model at once on a
            GPU (default 4); more are faster, fewer take less memory. On a CPU they go one by one. `flips`: average the
            maps of each tile and of its mirror images, left to right, top to bottom and both, in four passes of the
            network.

    Shape:
        images (B, 3, H, W) in [0, 1] -> maps (B, K + M, H, W): logits of K classes, and M auxiliary maps

    Raises:
        UserError: a setting is unknown, out of its range or does not fit another; the neck works within the encoder,
            and the backbone cannot be run level by level.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        foundation: dict | None = None,
        neck: dict | None = None,
        auxiliary_head: dict | Sequence[dict] | None = None,
        data_preprocessor: dict | None = None,
        bottleneck_dropout: float = 0.0,
        partner_context: bool = False,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(type='mmgfnuc.NucleiDataPreprocessor'), init_cfg)
        if (foundation is None) != (neck is None):
            given, missing = ('neck', 'foundation') if foundation is None else ('foundation', 'neck')
            raise UserError(f'model has a {given} but no {missing}; give both for fusion, or neither')
        if partner_context and foundation is None:
            raise UserError('partner_context=True needs a foundation encoder, which would see the partner; give one')
        self.partner_context = partner_context
        self.backbone: Any = build_backbone(backbone)
        wired = dict(in_channels=self.backbone.out_channels, in_strides=self.backbone.out_strides)
        self.foundation = self.neck = None
        self.within_encoder = False
        if foundation is not None and neck is not None:
            self.foundation = build_encoder(foundation)
            self.neck = build_part(neck, **wired, context_channels=self.foundation.out_channels)
            self.within_encoder = getattr(self.neck, 'within_encoder', False)
        if self.within_encoder and not isinstance(self.backbone, StagedBackbone):
            raise UserError(
                f'{type(self.neck).__name__} works between the levels of the encoder, and '
                f'{self.backbone.name} cannot be run level by level (it is not a StagedBackbone); derive yours from '
                'that, or take that of the presets unet, eunet3+, u2net, residual-unet or unext, or another neck'
            )
        if type(bottleneck_dropout) not in (int, float) or not 0 <= bottleneck_dropout < 1:
            raise UserError(f'bottleneck_dropout={bottleneck_dropout!r}: give a probability from 0, below 1')
        self.bottleneck_dropout = nn.Dropout2d(bottleneck_dropout)
        self.decode_head = build_part(_as_instance_head(decode_head), **wired)
        # Convolutions whose weights have the layout of their inputs need not copy them.
        self.decode_head.to(memory_format=self.backbone.memory_format)
        self.auxiliary_head = build_auxiliary_heads(auxiliary_head, self.decode_head, **wired)
        self.test_cfg = check_test_cfg(test_cfg or {})

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return what the decode head gets of images in [0, 1]: the fused pyramid, over the padded image."""
        *shallow, deepest = self._fused(inputs)
        return (*shallow, self.bottleneck_dropout(deepest))

    def _fused(self, inputs: Tensor) -> tuple[Tensor, ...]:
        images, context_images = self._split(inputs) if self.partner_context else (inputs, inputs)
        self.backbone.check(images)
        images = self._pad(images)
        if self.neck is None or self.foundation is None:
            return self.backbone(images)
        local = partial(self.backbone, images) if self.within_encoder else self.backbone(images)
        context_images = self._pad(context_images)
        strides = self.foundation.token_strides(*context_images.shape[-2:])
        return self.neck(local, self.foundation(context_images), strides)

    def _pad(self, images: Tensor) -> Tensor:
        return pad_to_multiple(images, self.backbone.out_strides[-1])

    @staticmethod
    def _split(inputs: Tensor) -> tuple[Tensor, Tensor]:
        if inputs.shape[1] != 6:
            raise UserError(
                f'partner_context=True takes 6 channels, an image and its partner, not {inputs.shape[1]}; '
                'set partner_images=True in the dataset'
            )
        return inputs[:, :3], inputs[:, 3:]

    def encode_decode(self, inputs: Tensor, batch_data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Return the maps of the head at image size."""
        maps = self.decode_head(self.extract_feat(inputs))
        height, width = inputs.shape[-2:]
        padded = [side + -side % self.backbone.out_strides[-1] for side in (height, width)]
        return resize(maps, padded)[..., :height, :width]

    def factor_of(self, mpp: float | None) -> float:
        """Tell by how much images of `mpp` micrometres per pixel are scaled to pixels of `test_cfg.mpp`.

        It is 1 where one of both is unknown, or they differ by a few percent only.
        """
        usual = self.test_cfg.get('mpp')
        if mpp is None or usual is None or abs(mpp / usual - 1) <= MPP_TOLERANCE:
            return 1.0
        return mpp / usual

    def scale_of(self, mpp: float | None) -> float:
        """Tell by how much images of `mpp` micrometres per pixel (None: unknown) are scaled for the network.

        It is `test_cfg.scale`, times `factor_of`.
        """
        return self.test_cfg.get('scale', 1.0) * self.factor_of(mpp)

    def predict_maps(self, inputs: Tensor, mpp: float | None = None) -> tuple[Tensor, Tensor]:
        """Return probabilities and auxiliary maps at image size; resolution and tiles are those of `test_cfg`.

        Tiles blend their probabilities. Images that are smaller than a tile, or too small for the backbone's depth, are
        continued by their mirror image first.

        Args:
            inputs: images in [0, 1].
            mpp: micrometres per pixel of the images, where it is known.

        Shape:
            (B, 3, H, W) -> (B, K, H, W), (B, M, H, W), float32
        """
        return self._split_maps(self._predict_small(inputs, mpp), inputs.shape[-2:])

    def _predict_small(self, inputs: Tensor, mpp: float | None) -> Tensor:
        """Return probabilities and auxiliary maps at the resolution of the network."""
        scale, tile = self.scale_of(mpp), self.test_cfg.get('tile')
        size = _scaled(inputs.shape[-2:], scale)
        images = resample(inputs, size, by_area=scale < 1)
        images, (top, left) = reflect_to_size(images, max(tile or 0, self.backbone.out_strides[-1]))
        if tile:
            overlap = self.test_cfg.get('overlap', tile // 4)
            # On a CPU several at once are no faster, and their sums are rounded in another order.
            at_once = 1 if images.device.type == 'cpu' else self.test_cfg.get('tiles_per_batch', 4)
            maps = tiled_forward(self._activated, images, tile, overlap, at_once)
        else:
            maps = self._activated(images)
        return maps[..., top : top + size[0], left : left + size[1]]

    def _split_maps(self, maps: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return probabilities and auxiliary maps at another size."""
        classes = self.decode_head.num_classes
        maps = _resize_maps(maps, classes, size)
        return maps[:, :classes], maps[:, classes:]

    def _activated(self, images: Tensor) -> Tensor:
        if not self.test_cfg.get('flips', False):
            return self.decode_head.activate(self.encode_decode(images))
        return torch.stack([self._activated_mirrored(images, axes) for axes in MIRRORED]).mean(0)

    def _activated_mirrored(self, images: Tensor, axes: tuple[int, ...]) -> Tensor:
        maps = self.decode_head.activate(self.encode_decode(images.flip(axes)))
        for axis in axes:
            maps = self.decode_head.flip(maps, axis)
        return maps

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of a training batch."""
        pyramid, samples = self.extract_feat(inputs), [self._pad_truth(sample) for sample in data_samples]
        losses = self.decode_head.loss(pyramid, samples, None)
        for name, head in self.auxiliary_head.items():
            losses |= add_prefix(head.loss(pyramid, samples, None), name)
        return losses

    def _pad_truth(self, sample: SegDataSample) -> SegDataSample:
        """Return a sample with the truth of the padded image: what was added is ignored."""
        padded = SegDataSample(metainfo=sample.metainfo)
        for key in [key for key in sample.keys() if key.startswith('gt_')]:  # noqa: SIM118 - no dict: it yields tensors
            truth = sample.get(key).data
            bottom, right = (-side % self.backbone.out_strides[-1] for side in truth.shape[-2:])
            value = self.decode_head.ignore_index if key == 'gt_sem_seg' else 0
            setattr(padded, key, PixelData(data=F.pad(truth, (0, right, 0, bottom), value=value)))
        return padded

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Set `pred_probabilities`, `pred_sem_seg` and `pred_instance_map` of data samples.

        A pixel of more than half a probability of nucleus has the most probable type, the others are background. Where
        a sample says its `mpp`, areas are told in micrometres and images scaled as `scale_of` says. Those of other
        pixels than `test_cfg.mpp` are divided into nuclei at that size, which the post-processor is made for, so that
        the same tissue gives the same nuclei at any resolution.

        Shape:
            - pred_probabilities: (K, H, W)
            - pred_sem_seg: (1, H, W), int64
            - pred_instance_map: (1, H, W), int32, an array: nuclei from 1 without gaps, 0 = background

        Raises:
            DivergedError: the maps are not finite, which would otherwise pass for an image without nuclei.
        """
        samples = data_samples or [SegDataSample() for _ in inputs]
        sizes = [sample.get('mpp') for sample in samples]
        if len({self.scale_of(mpp) for mpp in sizes}) > 1:
            return [self.predict(image[None], [sample])[0] for image, sample in zip(inputs, samples, strict=True)]
        size, maps = inputs.shape[-2:], self._predict_small(inputs, sizes[0])
        if not maps[:, : self.decode_head.num_classes].sum().isfinite():
            raise DivergedError('the model gives NaN: its weights are damaged, or its training failed; train it again')
        at_image = self._split_maps(maps, size)
        usual = _scaled(size, self.factor_of(sizes[0]))
        at_usual = at_image if usual == list(size) else self._split_maps(maps, usual)
        for sample, probabilities, foreground, auxiliary in zip(
            samples, at_image[0], 1 - at_usual[0][:, 0], at_usual[1], strict=True
        ):
            mpp = sample.get('mpp')
            nuclei = self.decode_head.nuclei(
                foreground, auxiliary, mpp if at_usual is at_image else self.test_cfg['mpp']
            )
            sample.pred_probabilities = PixelData(data=probabilities)
            sample.pred_sem_seg = PixelData(data=_classes_of(probabilities)[None])
            sample.pred_instance_map = PixelData(data=_resize_labels(nuclei, size)[None])
        return samples

    def _forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Return the maps of the head at image size (`mode='tensor'`)."""
        return self.encode_decode(inputs)


def _as_instance_head(config: dict) -> dict:
    """Make a plain decode head the decoder of a SemanticHead."""
    return config if is_part_of(config, InstanceHead) else dict(type=SemanticHead, decoder=config)


def _scaled(size: Sequence[int], factor: float) -> list[int]:
    """Round as the transform Rescale does, so that training and prediction see one size."""
    return [max(round(factor * side), 1) for side in size]


def _classes_of(probabilities: Tensor) -> Tensor:
    """Tell the class of each pixel: the most probable type where a nucleus is more probable than none.

    Shape:
        (K, H, W) -> (H, W), int64
    """
    nucleus = (1 - probabilities[0] > 0.5).long()
    return nucleus if len(probabilities) == 2 else nucleus * (probabilities[1:].argmax(0) + 1)


def _resize_labels(labels: NDArray[np.int32], size: Sequence[int]) -> NDArray[np.int32]:
    """Resize by the nearest pixel, and number what is left of the nuclei from 1 without gaps, in the same order.

    Shape:
        (h, w) -> (*size)
    """
    if labels.shape == tuple(size):
        return labels
    resized = cv2.resize(labels, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    present = np.bincount(resized.ravel()) > 0
    present[0] = False
    return (np.cumsum(present, dtype=np.int32) * present)[resized]


def _resize_maps(maps: Tensor, classes: int, size: Sequence[int]) -> Tensor:
    """Resize bilinearly; probabilities as logits, so that a border moves towards the side that is less sure.

    Shape:
        (B, classes + M, h, w), probabilities of the classes first -> (B, classes + M, *size)
    """
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    logits = maps[:, :classes].clamp(min=torch.finfo(maps.dtype).tiny).log()
    resized = resample(torch.cat([logits, maps[:, classes:]], dim=1), size)
    if classes == 2:
        # The softmax of two, which is faster so.
        rise = resized[:, 1] - resized[:, 0]
        resized[:, 0], resized[:, 1] = (-rise).sigmoid(), rise.sigmoid()
    else:
        resized[:, :classes] = resized[:, :classes].softmax(1)
    return resized


def check_test_cfg(settings: dict) -> dict:
    """Return settings of how images are predicted, see FusionSegmentor.

    Raises:
        UserError: one is unknown, out of its range or does not fit another.
    """
    unknown = sorted(set(settings) - set(TEST_SETTINGS))
    if unknown:
        raise UserError(f"model.test_cfg has no '{unknown[0]}'; it takes {', '.join(sorted(TEST_SETTINGS))}")
    for setting in ('scale', 'mpp', 'tile', 'tiles_per_batch'):
        value = settings.get(setting)
        if value is not None and value <= 0:
            raise UserError(f'model.test_cfg.{setting}={value}: give a number above 0, or leave it out')
    tile, overlap = settings.get('tile'), settings.get('overlap')
    if tile is not None and overlap is not None and not 0 <= overlap <= tile // 2:
        raise UserError(f'model.test_cfg.overlap={overlap}: give pixels from 0 to half of tile, {tile // 2}')
    return settings
