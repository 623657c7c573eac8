"""How the scripts of this folder measure time and memory."""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmgfnuc.errors import UserError

MEGABYTE = 10**6


def segmentor_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Sum of all losses of an MMSegmentation segmentor, side outputs included."""
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]
    return model.parse_losses(model(images, samples, mode='loss'))[0]


def seconds(action: Callable[[], object], device: str) -> float:
    """Time an action, until the device has done all of it."""
    wait = torch.cuda.synchronize if device == 'cuda' else torch.cpu.synchronize
    wait()
    start = time.perf_counter()
    action()
    wait()
    return time.perf_counter() - start


def memory(device: str, peak: bool = False) -> int:
    """Bytes that this process holds, or has held at most; on a GPU those of its tensors."""
    if device == 'cuda':
        return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
    # Not getrusage's maximum, which a process inherits from the one that starts it.
    values = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text('utf-8').splitlines())
    return int(values['VmHWM' if peak else 'VmRSS'].split()[0]) * 1024


def paired_ratio(first: Callable[[], float], second: Callable[[], float], pairs: int) -> float:
    """Median over pairs of runs of the second's time over the first's; the two take turns in beginning."""
    first()
    second()
    ratios = []
    for pair in range(pairs):
        if pair % 2:
            slow = second()
            ratios.append(slow / first())
        else:
            fast = first()
            ratios.append(second() / fast)
    return median(ratios)


def in_fresh_process(function: Callable[..., dict[str, Any]], name: str, *arguments: Any) -> dict[str, Any]:
    """Call a function in a process of its own."""
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context('spawn')) as pool:
            return pool.submit(function, name, *arguments).result()
    except BrokenProcessPool as error:
        raise UserError(f'{name}: its process was killed, probably for memory; give a smaller --size') from error


def positive(text: str) -> int:
    """Type of an option that is a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text} is not above 0')
    return number
