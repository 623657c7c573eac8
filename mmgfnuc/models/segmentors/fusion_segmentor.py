"""Wires a backbone, a foundation encoder, a fusion neck and a head."""

from functools import partial

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmgfnuc.errors import DivergedError, UserError
from mmgfnuc.models.backbones import StagedBackbone
from mmgfnuc.models.decode_heads import InstanceHead, SemanticHead
from mmgfnuc.models.layers import pad_to_multiple, reflect_to_size, resize
from mmgfnuc.registry import MODELS

from .tiling import tiled_forward

TEST_SETTINGS = {'scale', 'tile', 'overlap'}


@MODELS.register_module()
class FusionSegmentor(BaseSegmentor):
    """Local pyramid of the backbone, fused with the context of the foundation encoder, decoded to maps and nuclei.

    Images are padded on the right and below to a multiple of the backbone's deepest stride, and the logits cropped
    back: all levels then have their exact sizes, and no map is stretched against another.

    Channel counts and strides are wired here: neck and head are built with the `out_channels` and `out_strides` of the
    parts before them, so a config does not repeat them.

    Args:
        backbone: registry config, images -> local pyramid.
        decode_head: registry config, pyramid -> maps: an instance head, or a plain decode head, which is taken as the
            decoder of a SemanticHead.
        foundation: registry config of the foundation encoder; None for the arm without fusion.
        neck: registry config of the fusion neck; given if and only if `foundation` is. One that works within the
            encoder (EncoderFusionNeck) runs the backbone, which must be a StagedBackbone.
        bottleneck_dropout: probability that a channel of the deepest level is dropped in training, after the neck, or
            after the backbone where there is none. It belongs to the host, so that arms with and without fusion have it
            alike: 0.3 in the paper and its release.
        data_preprocessor: registry config.
        partner_context: images come as (B, 6, H, W), as from a dataset with `partner_images`: the backbone sees the
            first three channels, the foundation encoder the last three, which are another image. A control: what is
            left of a gain then does not come from what the foundation encoder sees in the image.
        test_cfg: how images are predicted. `scale`: the resolution that the model was trained at, over that of the
            images (default 1; see the transform Rescale). `tile`: larger images (after scaling) are predicted in tiles
            of this side, the size that the model was trained on; without it they are taken whole. Smaller ones are
            continued to this size by their mirror image, as RandomWarpCrop does in training: a model that has never
            seen the border of an image fails there. `overlap` of the tiles, by default a quarter of their side. Sizes
            in pixels.

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
        self.backbone = MODELS.build(backbone)
        wired = dict(in_channels=self.backbone.out_channels, in_strides=self.backbone.out_strides)
        self.foundation = self.neck = None
        self.within_encoder = False
        if foundation is not None:
            self.foundation = MODELS.build(foundation)
            self.neck = MODELS.build(neck, default_args=wired | dict(context_channels=self.foundation.out_channels))
            self.within_encoder = getattr(self.neck, 'within_encoder', False)
        if self.within_encoder and not isinstance(self.backbone, StagedBackbone):
            raise UserError(
                f'{type(self.neck).__name__} works between the levels of the encoder, and '
                f'{type(self.backbone).__name__} cannot be run level by level (it is no StagedBackbone); take that of '
                'the presets unet, eunet3+, u2net, residual-unet or unext, or another neck'
            )
        if type(bottleneck_dropout) not in (int, float) or not 0 <= bottleneck_dropout < 1:
            raise UserError(f'bottleneck_dropout={bottleneck_dropout!r}: give a probability from 0, below 1')
        self.bottleneck_dropout = nn.Dropout2d(bottleneck_dropout)
        self.decode_head = MODELS.build(_as_instance_head(decode_head), default_args=wired)
        # Convolutions whose weights have the layout of their inputs need not copy them.
        self.decode_head.to(memory_format=self.backbone.memory_format)
        self.test_cfg = test_cfg or {}
        unknown = sorted(set(self.test_cfg) - TEST_SETTINGS)
        if unknown:
            raise UserError(f"model.test_cfg has no '{unknown[0]}'; it takes {', '.join(sorted(TEST_SETTINGS))}")
        for setting in ('scale', 'tile'):
            value = self.test_cfg.get(setting)
            if value is not None and value <= 0:
                raise UserError(f'model.test_cfg.{setting}={value}: give a number above 0, or leave it out')
        tile, overlap = self.test_cfg.get('tile'), self.test_cfg.get('overlap')
        if tile is not None and overlap is not None and not 0 <= overlap <= tile // 2:
            raise UserError(f'model.test_cfg.overlap={overlap}: give pixels from 0 to half of tile, {tile // 2}')

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

    def predict_maps(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of the classes and cues at image size, at the resolution and in tiles as `test_cfg` says.

        The logits are logarithms of probabilities, which are what tiles blend. Images that are smaller than a tile, or
        too small for the backbone's depth, are continued by their mirror image first.

        Shape:
            (B, 3, H, W) -> (B, K, H, W), (B, M, H, W), float32
        """
        scale, tile = self.test_cfg.get('scale', 1.0), self.test_cfg.get('tile')
        # Rounded as the transform Rescale does, so that training and prediction see one size.
        size = [max(round(scale * side), 1) for side in inputs.shape[-2:]]
        images = inputs if scale == 1 else F.interpolate(inputs, size, mode='area')
        images, (top, left) = reflect_to_size(images, max(tile or 0, self.backbone.out_strides[-1]))
        if tile:
            maps = tiled_forward(self._activated, images, tile, self.test_cfg.get('overlap', tile // 4))
        else:
            maps = self._activated(images)
        classes = self.decode_head.num_classes
        probabilities, cues = maps[:, :classes], maps[:, classes:]
        logits = probabilities.clamp(min=torch.finfo(maps.dtype).tiny).log()
        maps = torch.cat([logits, cues], dim=1)[..., top : top + size[0], left : left + size[1]]
        maps = resize(maps, inputs.shape[-2:])
        return maps[:, :classes].log_softmax(1), maps[:, classes:]

    def _activated(self, images: Tensor) -> Tensor:
        return self.decode_head.activate(self.encode_decode(images))

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of a training batch."""
        return self.decode_head.loss(
            self.extract_feat(inputs), [self._pad_truth(sample) for sample in data_samples], None
        )

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
        """Set `seg_logits`, `pred_sem_seg` and `pred_instance_map` of data samples.

        A pixel of more than half a probability of nucleus has the most probable type, the others are background. Areas
        are told in micrometres where a sample says its `mpp`.

        Shape:
            - seg_logits: (K, H, W), logarithms of the probabilities
            - pred_sem_seg: (1, H, W), int64
            - pred_instance_map: (1, H, W), int32, on the CPU: nuclei from 1 without gaps, 0 = background

        Raises:
            DivergedError: the logits are not finite, which would otherwise pass for an image without nuclei.
        """
        samples = data_samples or [SegDataSample() for _ in inputs]
        for sample, logits, cues in zip(samples, *self.predict_maps(inputs), strict=True):
            if not logits.isfinite().all():
                raise DivergedError(
                    'the model gives NaN: its weights are damaged, or its training failed; train it again'
                )
            foreground = 1 - logits[0].exp()
            nuclei = self.decode_head.nuclei(foreground, cues, sample.get('mpp'))
            sample.seg_logits = PixelData(data=logits)
            sample.pred_sem_seg = PixelData(data=((foreground > 0.5) * (logits[1:].argmax(0) + 1))[None])
            sample.pred_instance_map = PixelData(data=nuclei[None])
        return samples

    def _forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Return the maps of the head at image size (`mode='tensor'`)."""
        return self.encode_decode(inputs)


def _as_instance_head(config: dict) -> dict:
    """Make a plain decode head the decoder of a SemanticHead."""
    head = MODELS.get(config['type']) if isinstance(config['type'], str) else config['type']
    gives_nuclei = isinstance(head, type) and issubclass(head, InstanceHead)
    return config if gives_nuclei else dict(type=SemanticHead, decoder=config)
