"""What is known of a foundation encoder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mmgfnuc.models.weights.locate import WeightSource

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


class Resampling(NamedTuple):
    """How position embeddings are brought to another grid: bicubic, pixels as areas.

    Attributes:
        antialias: filter before the grid is made coarser?
        offset: added to the rows and columns of the new grid before the scale is taken: (n + offset) / n_stored.
    """

    antialias: bool
    offset: float = 0.0


# timm (SAM too), open_clip, and DINOv2 with registers.
ANTIALIASED = Resampling(antialias=True)
# transformers' Dinov2Model, CLIPVisionModel and SiglipVisionModel; SAM 2.
PLAIN = Resampling(antialias=False)
# DINOv2 without registers, in its publisher's own code.
DINOV2 = Resampling(antialias=False, offset=0.1)


def quarters(depth: int) -> tuple[int, ...]:
    """Return the last block of each quarter of a transformer, from fine to abstract."""
    return tuple(depth * part // 4 - 1 for part in (1, 2, 3, 4))


@dataclass(frozen=True, kw_only=True)
class Entry(WeightSource):
    """One foundation encoder. What could not be checked is None, not guessed.

    Attributes:
        name: as `foundation_encoder` takes it; the source of its weights has others.
        family: heading of the generated page.
        arch: timm's architecture, or segment-anything's.
        encoder: `vit` (a plain ViT of timm), `pyramid` (a timm model with stages) or `sam` (segment-anything).
        settings: timm's keyword arguments, where the publisher's model is another one than `arch` by itself.
        width: channels of the deepest layer.
        depth: blocks; of a pyramid its stages.
        patch: pixels per token of the deepest layer.
        layers: used by default: indices of blocks or stages, or `neck`.
        mean: of images in [0, 1], per channel.
        std: likewise.
        stretch: each image is stretched to its own minimum and maximum first.
        native_size: side of the images that the publisher's position embeddings are for (pixels).
        input_size: to which the longer side of an image is scaled by default (pixels); None takes images as given.
        resampling: of absolute position embeddings; None where there are none.
        mpp: micrometres per pixel of the images that it was trained on.
        licence: of the weights.
        non_commercial: does the licence forbid commercial use?
        gated: must one agree to terms or log in for the weights?
        citation: paper.
        sources: where these facts were read.
        note: what else a user must know.
    """

    family: str
    arch: str
    encoder: str = 'vit'
    settings: Mapping[str, Any] = field(default_factory=dict)
    width: int
    depth: int
    patch: int
    layers: tuple[int | str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stretch: bool = False
    native_size: int
    input_size: int | None = None
    resampling: Resampling | None
    mpp: float | None = None
    licence: str | None
    non_commercial: bool | None
    gated: bool | None
    citation: str
    sources: tuple[str, ...]
    note: str = ''
    config_key: str = 'model.foundation.weights'

    @property
    def terms(self) -> str:
        """What must be respected when the weights are used; empty where nothing is known to restrict them."""
        limits = []
        if self.non_commercial is not False:
            limits.append('no commercial use' if self.non_commercial else 'commercial use is not settled')
        if self.gated:
            limits.append('gated: the publisher asks for agreement to terms')
        if not limits:
            return ''
        return f"weights '{self.name}': licence {self.licence or 'unknown'}; {'; '.join(limits)}; see {self.page}"
