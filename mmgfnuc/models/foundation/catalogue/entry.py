"""What is known of a foundation encoder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmgfnuc.models.weights.locate import RANDOM, WeightSource, find_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
# The kind of encoders that are modules of one's own.
MODULE = 'module'


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

    An architecture of timm needs its name, `arch`, `mean` and `std`; where `encoder`, `width`, `depth`, `patch`,
    `layers` or `native_size` is left out, `find_entry` takes it from the architecture.

    Attributes:
        name: as `foundation_encoder` takes it; the source of its weights has others.
        arch: timm's architecture, segment-anything's, or the dotted name of a module (`own_parts.encoder.MyEncoder`).
        mean: of images in [0, 1], per channel; of a module it may be empty, which takes what the module says.
        std: likewise.
        family: heading of the generated page.
        encoder: `vit` (a plain ViT of timm), `pyramid` (a timm model with stages), `sam` (segment-anything), `module`
            (any module, see ModuleEncoder) or the dotted name of a FoundationEncoder of one's own.
        settings: keyword arguments of `arch`, where the publisher's model is another one than `arch` by itself.
        width: channels of the deepest layer.
        depth: blocks; of a pyramid its stages.
        patch: pixels per token of the deepest layer.
        layers: used by default: indices of blocks or stages, or `neck`; of a module, indices of its maps, and empty
            takes all.
        out_channels: of the maps of a module that does not say them itself.
        out_strides: likewise.
        stretch: each image is stretched to its own minimum and maximum first.
        native_size: side of the images that the publisher's position embeddings are for (pixels).
        input_size: to which the longer side of an image is scaled by default (pixels); None takes images as given.
        resampling: of absolute position embeddings, by default as timm does it; None where there are none.
        mpp: micrometres per pixel of the images that it was trained on.
        licence: of the weights.
        non_commercial: does the licence forbid commercial use?
        gated: must one agree to terms or log in for the weights?
        citation: paper.
        sources: where these facts were read.
        note: what else a user must know.
    """

    arch: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    family: str = 'own'
    encoder: str = ''
    settings: Mapping[str, Any] = field(default_factory=dict)
    width: int = 0
    depth: int = 0
    patch: int = 0
    layers: tuple[int | str, ...] = ()
    out_channels: tuple[int, ...] = ()
    out_strides: tuple[int, ...] = ()
    stretch: bool = False
    native_size: int = 0
    input_size: int | None = None
    resampling: Resampling | None = ANTIALIASED
    mpp: float | None = None
    licence: str | None = None
    non_commercial: bool | None = None
    gated: bool | None = None
    citation: str = ''
    sources: tuple[str, ...] = ()
    note: str = ''
    config_key: str = 'model.foundation.weights'

    @property
    def constructs_weights(self) -> bool:
        """Whether its weights are those that its constructor gives: a module's, where no file of them is known."""
        return self.encoder == MODULE and not (self.hub or self.file or self.address)

    @property
    def without_file(self) -> str | None:
        """What `weights` is where an encoder is built for its shape alone, or a checkpoint brings the weights."""
        return None if self.constructs_weights else RANDOM

    def weight_file(self, weights: str | Path | None) -> Path | None:
        """Find the file that a config means by `weights`; None where there is none to read, see `find_weights`.

        Raises:
            UserError: there is no such file.
        """
        if weights == RANDOM or (weights is None and self.constructs_weights):
            return None
        return find_weights(weights, self)

    @property
    def terms(self) -> str:
        """What must be respected when the weights are used; empty where nothing is known to restrict them."""
        limits = []
        if self.non_commercial is not False and (self.licence or self.page):
            limits.append('no commercial use' if self.non_commercial else 'commercial use is not settled')
        if self.gated:
            limits.append('gated: the publisher asks for agreement to terms')
        if not limits:
            return ''
        where = f'; see {self.page}' if self.page else ''
        return f"weights '{self.name}': licence {self.licence or 'unknown'}; {'; '.join(limits)}{where}"
