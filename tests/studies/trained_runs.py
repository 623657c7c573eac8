"""Runs of a study that look trained: random models whose checkpoints are written here."""

import warnings

import torch

from mmgfnuc.datasets import synthetic
from mmgfnuc.engine.config import load_config
from mmgfnuc.inference.preprocessing import describe_preprocessing
from mmgfnuc.registry import DATASETS, MODELS
from mmgfnuc.studies.runs import study_runs
from mmgfnuc.studies.storage import RECORD, prepare_folder, run_folder
from mmgfnuc.studies.study import make_study

SMALL = {'backbone': {'widths': [4, 8, 16]}}
ENCODER = {'foundation': {'arch': {'embed_dim': 24, 'depth': 2, 'num_heads': 2}, 'out_layers': [-1]}}
FUSED = {'unet': 'unet', 'foundation': 'vit-tiny', 'weights': 'random', 'parts': SMALL | ENCODER}


def write_data(root):
    """Six images of 64 x 64 pixels, three of them in the test part."""
    synthetic.write_dataset(root, num_train=3, num_val=3, size=64, seed=0)
    return root


def runs_of(data, *arms, **changes):
    settings = {'title': 'A study', 'data': 'synthetic', 'data_root': str(data), 'splits': ['default'], 'steps': 1}
    return study_runs(make_study(settings | {'arms': list(arms)} | changes), data.parent / 'runs')


def write_trained(root, run, seed=0):
    """Write the folder of a run up to the end of its test; return it."""
    folder = run_folder(root, run)
    prepare_folder(folder, run)
    config = load_config(str(folder / 'config.py'))
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.* has RANDOM weights')
        model = MODELS.build(config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            # The attention of a new block is zero, and a new gate close to one half.
            parameter.add_(0.2 * torch.randn_like(parameter))
    dataset = DATASETS.build(config.test_dataloader.dataset)
    meta = {'cfg': config.pretty_text, 'seed': 0, 'iter': 1, 'dataset_meta': dataset.metainfo, 'versions': {}}
    meta['preprocessing'] = describe_preprocessing(dataset)
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / 'iter_1.pth')
    (folder / RECORD).write_text('{}\n')
    return folder
