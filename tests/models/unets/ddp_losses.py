"""Losses of three training steps, of one process or of several that share the batch: used by test_ddp.py.

Usage: ddp_losses.py OUT CASES   (CASES is JSON, a list of U-Net, fusion, parts; started by torchrun)
"""

import json
import os
import sys
from pathlib import Path

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import mmgfnuc

BATCH = 4
SIZE = 64


def batch():
    """Images and truth without ignored pixels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(BATCH, 3, SIZE, SIZE, generator=generator)
    labels = torch.randint(0, 2, (BATCH, 1, SIZE, SIZE), generator=generator)
    return images, [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]


def build(unet, fusion, parts):
    torch.manual_seed(0)
    encoder = {'type': 'mmgfnuc.foundation_encoder', 'name': 'sam-vit-b', 'weights': 'random', 'input_size': None}
    encoder['arch'] = {'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'global_attn_indexes': (1,)}
    model = mmgfnuc.create_model(unet, encoder, fusion, parts=parts).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
        # Norms that do not normalise let the signal fade, and nothing would be learned.
        if isinstance(module, torch.nn.Conv2d) and module.weight.requires_grad:
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
    return model


def losses(unet, fusion, parts, rank=0, world=1):
    model = build(unet, fusion, parts)
    if world > 1:
        model = DistributedDataParallel(model, broadcast_buffers=False)
    images, samples = batch()
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    totals = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(images[share], samples[share], mode='loss')['loss_dice_focal']
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        if world > 1:
            distributed.all_reduce(total)
        totals.append(total.item() / world)
    return totals


def main(out, cases):
    distributed.init_process_group('gloo')
    rank, world = distributed.get_rank(), distributed.get_world_size()
    found = [losses(*case, rank, world) for case in json.loads(cases)]
    if rank == 0:
        Path(out).write_text(json.dumps(found))
    distributed.barrier()
    # The interpreter's own way out may abort, see mmgfnuc.engine.distributed.leave.
    os._exit(0)


if __name__ == '__main__':
    main(*sys.argv[1:])
