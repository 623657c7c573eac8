"""From a checkpoint or a ready model to the network that runs: what both hold is read as data, and built."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import find_entry
from mmgfnuc.models.segmentors import FusionSegmentor
from mmgfnuc.models.weights import describe_mismatch
from mmgfnuc.models.weights.locate import WEIGHTS_ENV
from mmgfnuc.models.weights.torch_files import reason_of
from mmgfnuc.registry import MODELS

from .checkpoint import carried_config, check_classes, check_fit, read_checkpoint, weights_from_checkpoint
from .domain import TrainingDomain
from .dumped_config import MODEL_PARTS, check_outputs, check_registered, forget_caches
from .preprocessing import Preprocessing, read_preprocessing, use_resolution
from .ready import FIX, ReadyModel, find_ready, read_ready, shipped_folder

CHECKPOINT_SUFFIXES = ('.pth', '.pt')


@dataclass(frozen=True)
class SavedModel:
    """What a checkpoint or a ready model holds.

    Attributes:
        name: of the model, or of the file of a checkpoint.
        source: where it was read, for an error.
        config: settings, with those of the network under `model`; it may name registered parts only.
        weights: of the network, but for those of an encoder that are found elsewhere.
        preprocessing: what becomes of an image.
        domain: which images it was made for, None where that is unknown, as in a checkpoint.
        elsewhere: weights of an encoder that a ready model leaves to their publisher: `name`, `sha256`, `address`.
        foreign: whether a stranger may have chosen the sizes of the network.
    """

    name: str
    source: str
    config: Config
    weights: dict[str, Tensor]
    preprocessing: Preprocessing
    domain: TrainingDomain | None = None
    elsewhere: Sequence[Mapping[str, Any]] = ()
    foreign: bool = False


@dataclass(frozen=True)
class LoadedModel:
    """A network that runs, the config that it was built of, and what belongs to it; see SavedModel."""

    name: str
    config: Config
    network: FusionSegmentor
    preprocessing: Preprocessing
    domain: TrainingDomain | None


def is_checkpoint(model: str | Path) -> bool:
    """Whether a model is meant to be a checkpoint, not a ready model."""
    return Path(model).suffix in CHECKPOINT_SUFFIXES


def read_model(model: str | Path, config: Config | None = None) -> SavedModel:
    """Read a .pth checkpoint, or a ready model by its name, its folder or its name on the hub.

    Args:
        model: to read.
        config: in the place of a checkpoint's own, whose parts need not be known then.

    Raises:
        UserError: there is none, it is damaged, or names parts that are not registered.
    """
    return _of_checkpoint(model, config) if is_checkpoint(model) else _of_ready(read_ready(find_ready(model)))


def load_model(model: str | Path, config: Config | None = None) -> LoadedModel:
    """Read a model and build its network.

    Args:
        model: see `read_model`.
        config: to build the network of, instead of the model's own.

    Raises:
        UserError: see `read_model`; or the weights do not fit, or those of the encoder are not there.
    """
    saved = read_model(model, config)
    source = 'the config' if config else f'the config in {saved.source}'
    if config is None:
        _require_encoder(saved)
    config = config or saved.config
    if saved.foreign:
        _check_sizes(config, saved)
    network = build_network(config, source)
    check_fit(network.state_dict(), saved.weights)
    network.load_state_dict(saved.weights)
    check_classes(network.decode_head.num_classes, saved.preprocessing.classes)
    use_resolution(network, saved.preprocessing)
    return LoadedModel(saved.name, config, network, saved.preprocessing, saved.domain)


def build_network(config: Config, source: str) -> FusionSegmentor:
    """Build a network; what a part raises on its settings becomes one line."""
    try:
        with DefaultScope.overwrite_default_scope(config.get('default_scope')), weights_from_checkpoint(config):
            network = MODELS.build(config.model)
    except UserError:
        raise
    except Exception as error:  # any that a constructor raises
        raise UserError(
            f'{source} builds no model ({type(error).__name__}: {reason_of(error)}); correct it, or name another one'
        ) from error
    if not isinstance(network, FusionSegmentor):
        raise UserError(f'the model is a {type(network).__name__}; only a FusionSegmentor gives nuclei')
    return network


def _require_encoder(saved: SavedModel) -> None:
    for part in saved.elsewhere:
        try:
            find_entry(part['name']).weight_file(None)
        except UserError as error:
            raise UserError(
                f"{saved.source} needs the weights of '{part['name']:.60}', which are not there: get the file of "
                f'SHA-256 {part["sha256"]:.64} from {part["address"]:.200} and put it into the folder ${WEIGHTS_ENV} '
                'names'
            ) from error


def _of_checkpoint(path: str | Path, config: Config | None) -> SavedModel:
    saved, source = read_checkpoint(path), f"checkpoint '{path}'"
    if config is None:
        config = carried_config(saved, path)
        check_registered(config.get('model'), source, MODEL_PARTS)
        forget_caches(config.get('model'))
    preprocessing = read_preprocessing(saved['meta']['preprocessing'], source)
    return SavedModel(Path(path).stem, source, config, saved['state_dict'], preprocessing)


def _of_ready(ready: ReadyModel) -> SavedModel:
    settings, source = ready.config, f"ready model '{ready.folder}'"
    check_registered(settings['model'], source, MODEL_PARTS)
    check_outputs(settings['model'], source)
    config = Config({'model': settings['model']})
    stains = [_with_pixels(stain, ready.pixels) for stain in settings['preprocessing']['stains']]
    preprocessing = read_preprocessing({**settings['preprocessing'], 'stains': stains}, source)
    domain = TrainingDomain.from_dict(settings['domain'], f'{source}: domain')
    elsewhere = [part for part in settings['pretrained'] if part['sha256'] is not None]
    # Those of the package are as trusted as its code, and begin faster.
    foreign = ready.folder.parent != shipped_folder()
    return SavedModel(settings['name'], source, config, ready.weights, preprocessing, domain, elsewhere, foreign)


def _with_pixels(stain: Any, pixels: Mapping[str, Tensor]) -> Any:
    """Put the pixels of its template into a stain normalisation, as a checkpoint holds it."""
    if isinstance(stain, dict) and isinstance(stain.get('template'), str):
        return {**stain, 'template': pixels.get(stain['template'])}
    return stain


def _check_sizes(config: Config, saved: SavedModel) -> None:
    """Compare weights with a network that takes no memory: sizes that a stranger chose may be larger than any."""
    with torch.device('meta'), warnings.catch_warnings():
        # Weights of an encoder are read from its file, and go nowhere here.
        warnings.filterwarnings('ignore', message='.*copying from a non-meta parameter')
        own = build_network(config, f'the config in {saved.source}').state_dict()
    mismatch = describe_mismatch(own, saved.weights) or _other_kinds(own, saved.weights)
    if mismatch:
        raise UserError(f'{saved.source}: its weights do not fit its config: it {mismatch}; {FIX}')


def _other_kinds(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    wrong = [key for key, one in own.items() if one.dtype != weights[key].dtype]
    return f'has {wrong[0]} as {weights[wrong[0]].dtype}' if wrong else ''
