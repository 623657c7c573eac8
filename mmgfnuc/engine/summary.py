"""A run in a few lines: its data, its model, its length."""

import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.models.foundation import FoundationEncoder
from mmgfnuc.models.segmentors import FusionSegmentor
from mmgfnuc.models.weights.locate import RANDOM

WIDTH = 10


def describe(runner: Runner, *parts: str) -> str:
    """Say what a run works on: the data of the named parts (`train`, `val`, `test`), the model, the device, the folder.

    Of a run that trains also its steps, the images of each, and the seed.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    loaders = {part: getattr(runner, f'{part}_dataloader') for part in parts}
    lines = [(f'{part} data', _data(runner, part, loader)) for part, loader in loaders.items()]
    if isinstance(model, FusionSegmentor):
        lines += [('U-Net', _unet(model)), *_context(model, trained='train' in loaders), ('head', _head(model))]
    else:
        lines.append(('model', type(model).__name__))
    lines.append(('size', _size(model)))
    if 'train' in loaders:
        lines.append(('training', _length(runner, loaders['train'])))
    lines += [('device', _device(model, runner.world_size)), ('folder', runner.work_dir)]
    return '\n'.join(f'{name:{WIDTH}} {text}' for name, text in lines)


def _count(number: int, noun: str) -> str:
    return f'{number:,} {noun}' if number == 1 else f'{number:,} {noun}s'


def _data(runner: Runner, part: str, loader: DataLoader) -> str:
    dataset = loader.dataset
    if not isinstance(dataset, NucleiDataset):
        return f'{type(dataset).__name__}, {_count(len(dataset), "sample")}'  # type: ignore[arg-type]
    split = runner.cfg[f'{part}_dataloader'].dataset.get('split')
    where = f'{dataset.data_root}, split {split}' if split else f'{dataset.data_root}, all of it'
    return f'{where}: {_count(len(dataset), "image")} of {_count(len(dataset.groups), "group")}'


def _unet(model: FusionSegmentor) -> str:
    return f'{model.backbone.name}, channels {", ".join(map(str, model.backbone.out_channels))}'


def _context(model: FusionSegmentor, trained: bool) -> list[tuple[str, str]]:
    encoder, neck = model.foundation, model.neck
    if encoder is None or neck is None:
        return [('encoder', 'no foundation encoder, no fusion')]
    return [
        ('encoder', f'{encoder.entry.name}, {_weights(encoder, trained)}, {encoder.tune}'),
        ('fusion', _fusion(neck)),
    ]


def _weights(encoder: FoundationEncoder, trained: bool) -> str:
    # Tested, an encoder that was tuned in full is built without its file, as the checkpoint brings its weights.
    if not trained and encoder.tune == 'full':
        return 'pretrained'
    if encoder.weights == RANDOM:
        return 'RANDOM weights'
    constructed = encoder.weights is None and encoder.entry.constructs_weights
    return 'weights of its constructor' if constructed else 'pretrained'


def _fusion(neck: torch.nn.Module) -> str:
    """The neck by a name that separates necks of the same blocks."""
    blocks = getattr(neck, 'blocks', {})
    kinds = ', '.join(dict.fromkeys(type(block).__name__ for block in blocks.values()))
    return type(neck).__name__ + (f': {kinds}, levels {", ".join(blocks)}' if blocks else '')


def _head(model: FusionSegmentor) -> str:
    head = model.decode_head
    return f'{type(head).__name__} over {type(head.decoder).__name__}, {head.num_classes} classes'


def _size(model: torch.nn.Module) -> str:
    parameters = list(model.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return f'{sum(parameter.numel() for parameter in parameters):,} parameters, {trained:,} of them trainable'


def _length(runner: Runner, loader: DataLoader) -> str:
    begin = f'from step {runner.iter:,} ' if runner.iter else ''
    images = (loader.batch_size or 0) * runner.world_size
    epochs = runner.max_iters / max(len(loader), 1)
    end = f'to step {runner.max_iters:,} ({epochs:.3g} epochs)'
    return f'{begin}{end}, {_count(images, "image")} each; seed {runner.seed}'


def _device(model: torch.nn.Module, processes: int) -> str:
    device = next(model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type.upper()
    return f'{name}, {processes} process{"es" if processes > 1 else ""}'
