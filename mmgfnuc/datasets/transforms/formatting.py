"""From the arrays of a sample to the tensors that a model takes."""

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmgfnuc.registry import TRANSFORMS

IGNORE_LABEL = 255


def semantic_map(instance_map: np.ndarray, ignore_map: np.ndarray, type_map: np.ndarray | None = None) -> np.ndarray:
    """Label of every pixel: 0 background, 1 nucleus or its type, 255 where `ignore_map` is True, nucleus or not.

    With nucleus types, a nucleus of unknown type (0) is 255 too: it is neither background nor one of the types.

    Shape:
        - instance_map, ignore_map, type_map: (H, W)
        - returns: (H, W), uint8
    """
    labels = (instance_map > 0).astype(np.uint8) if type_map is None else type_map.astype(np.uint8)
    labels[ignore_map | ((instance_map > 0) & (labels == 0))] = IGNORE_LABEL
    return labels


@TRANSFORMS.register_module()
class PackNucleiInputs(BaseTransform):
    """Last step of a pipeline: the tissue image as a tensor, its truth and its origin as a `SegDataSample`.

    The values of the image stay 0 to 255 in RGB order; the data preprocessor of the model scales them. `mpp` is in
    micrometres per pixel of the packed image. The instance map is not cut by the ignore map: a metric that scores
    instances needs them whole to tell how much of each is ignored.

    Shape:
        - inputs: (3, H, W), uint8
        - data_samples.gt_sem_seg.data: (1, H, W), int64: 0 background, 1 nucleus (or its type), 255 ignore
        - data_samples.gt_instance_map.data: (1, H, W), int32: 0 background
        - data_samples.gt_*.data: (C, H, W) of each `gt_*` that a target transform made
    """

    META_KEYS = ('img_id', 'group', 'mpp', 'img_path', 'ori_shape')

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack `img`, `instance_map`, `ignore_map` and the keys that say where the sample comes from."""
        image, instances = results['img'], results['instance_map']
        labels = semantic_map(instances, results['ignore_map'], results.get('type_map')).astype(np.int64)
        sample = SegDataSample(metainfo={key: results[key] for key in self.META_KEYS} | {'img_shape': image.shape[:2]})
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels[None]))
        sample.gt_instance_map = PixelData(data=torch.from_numpy(np.ascontiguousarray(instances)[None]))
        for key in results:
            if key.startswith('gt_'):
                target = torch.from_numpy(results[key])
                setattr(sample, key, PixelData(data=target if target.ndim == 3 else target[None]))
        return {
            'inputs': torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            'data_samples': sample,
        }
