"""Results of studies that were never run, as `study_results` gives them."""

import io

import numpy as np
from PIL import Image

from mmgfnuc.studies.pictures import Picture
from mmgfnuc.studies.storage import SCORES

COMPARED = ('dice', 'aji', 'pq')
NAMES = [
    'unet/none/semantic',
    'unet/concat/vit-tiny/semantic',
    'unet/paper/vit-tiny/semantic',
    'unet/context/vit-tiny/semantic',
    'unet/shuffled-context-image/vit-tiny/semantic',
    'unet/context/vit-tiny:random/semantic',
    'eunet3+/none/semantic',
    'eunet3+/paper/vit-tiny/semantic',
    'eunet3+/context/vit-tiny/semantic',
]
ORGANS = [f'organ {number:02}' for number in range(16)]


def compared(rng, arm, baseline, groups):
    by_group = {group: rng.normal(0.015, 0.02) for group in groups}
    mean = float(np.mean(list(by_group.values())))
    interval = [mean - 0.014, mean + 0.014] if len(groups) > 1 else None
    significant = mean > 0.014 and interval is not None
    spread = f'95% interval {mean - 0.014:+.3f} to {mean + 0.014:+.3f}'
    verdict = 'a significant gain' if significant else 'no significant difference'
    return {
        'arm': arm,
        'baseline': baseline,
        'mean_difference': mean,
        'interval': interval,
        'by_group': by_group,
        'rank_biserial': 0.4,
        'p': 0.01,
        'p_holm': 0.03,
        'significant': significant,
        'words': f'{arm}: Dice {mean:+.3f} against {baseline} ({spread}), better in 11 of {len(groups)} groups, '
        f'rank-biserial r +0.40, p = 0.030 (Wilcoxon over groups, Holm-corrected for 8 arms): {verdict}.',
    }


def made_arm(rng, name, groups, images, gated):
    unet, fusion, *rest = name.split('/')
    encoder = rest[0] if len(rest) > 1 else None
    centre, power = rng.normal(0.7, 0.03), rng.uniform(1, 1.5)
    return {
        'name': name,
        'unet': unet,
        'foundation': encoder,
        'fusion': fusion,
        'weights': 'random' if encoder and 'random' in encoder else None,
        'head': 'semantic',
        'parts': {},
        'scores': {
            score: {'mean': mean, 'interval': [mean - 0.03, mean + 0.03] if len(groups) > 1 else None}
            for score, mean in zip(SCORES, centre - 0.02 * np.arange(len(SCORES)), strict=True)
        },
        'groups': {score: {group: centre + rng.normal(0, 0.05) for group in groups} for score in COMPARED},
        'images': {'dice': np.clip(rng.normal(centre, 0.08, images), 0, 1).tolist()},
        'costs': {
            'parameters': 7_763_000 if encoder else 1_942_000,
            'trained': 2_233_000 if encoder else 1_942_000,
            'macs': 5_400_000_000 if encoder else 3_430_000_000,
            'token_stride': 16.0 if encoder else None,
            'train_seconds': 170 + 300 * rng.random(),
            'train_mb': 1480,
            'inference_seconds': 0.04 + 0.2 * rng.random(),
            'inference_ratio': 1.0 if fusion == 'none' else 2.31,
            'inference_mb': 612,
        },
        'calibration': {
            'bins': [
                {'confidence': place / 15, 'frequency': (place / 15) ** power, 'count': 1000 * (16 - place)}
                for place in range(1, 15)
            ],
            'ece': 0.0312,
            'brier': 0.0871,
        },
        'gates': [made_gate(rng, fusion)] if gated and fusion in ('paper', 'context') else [],
    }


def made_gate(rng, fusion):
    edges, counts = np.linspace(0, 1, 21).tolist(), rng.integers(10, 900, 20).tolist()
    entropy = 0.83 if fusion == 'context' else None
    return {'level': 4, 'mean': 0.48, 'std': 0.11, 'edges': edges, 'counts': counts, 'entropy': entropy}


def made_ranks(rng, names, groups):
    return {
        'average_ranks': dict(zip(names, sorted(rng.uniform(1, len(names), len(names))), strict=True)),
        'num_groups': len(groups),
        'friedman_p': 0.0004,
        'critical_difference': 3.0,
        'cliques': [names[:4], names[2:6]],
    }


def made_data_set(rng, data, names, groups, images, gated=True):
    pairs = [(name, 'unet/none/semantic' if name[:4] == 'unet' else 'eunet3+/none/semantic') for name in names[1:]]
    pairs = [(arm, baseline if arm != baseline else names[0]) for arm, baseline in pairs]
    comparisons = {score: [compared(rng, *pair, groups) for pair in pairs] for score in COMPARED}
    controls = [('unet/context/vit-tiny/semantic', name) for name in names if 'shuffled' in name or ':random' in name]
    return {
        'data': data,
        'source': 'Who 2024, CC0',
        'num_images': images,
        'groups': groups,
        'left_out': {'dice': 0, 'aji': 2, 'pq': 2} if gated else {'dice': 0, 'aji': 0, 'pq': 0},
        'arms': [made_arm(rng, name, groups, images, gated) for name in names],
        'comparisons': comparisons,
        'fusion_gains': {
            score: [row for row in rows if '/none/' not in row['arm']] for score, rows in comparisons.items()
        },
        'controls': {score: [compared(rng, *pair, groups) for pair in controls] for score in COMPARED},
        'ranks': {score: made_ranks(rng, names, groups) if len(names) > 2 else None for score in COMPARED},
        'conclusion': [
            'Of 7 arms with fusion, 2 have a significantly higher Dice than the same U-Net without: '
            'unet/context/vit-tiny/semantic (+0.021, 95 % interval +0.008 to +0.033).',
            f'All this holds for {images} images of {len(groups)} groups and 2 seeds.',
        ],
    }


def made_results(data_sets):
    return {
        'title': 'What fusion brings (U-Net and eU-Net3+ of width 16, ViT-Ti/16; CPU budget)',
        'study': {'steps': 300, 'batch_size': 4, 'amp': True, 'seeds': [0, 1], 'splits': ['fold-0', 'fold-1']},
        'provenance': {
            'commits': ['98e2fc1a0b7c4d1e2f3a4b5c6d7e8f9012345678'],
            'versions': {'python': '3.11.2', 'torch': '2.12.1+cpu', 'timm': '1.0.31', 'numpy': '2.4.0'},
            'hardware': ['2 cores of AMD EPYC 9R14'],
            'code_digest': '5d41402abc4b2a76b9719d911017c592ae2b5d41402abc4b2a76b9719d911017',
            'weights': {'vit-tiny': 'f00d'},
            'data_digests': {data_set['data']: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4' for data_set in data_sets},
            'command': 'tools/benchmark.py configs/studies/fusions.yaml --engine local --processes 2',
            'date': '2025-11-28',
            'package': '0.1.0',
        },
        'data_sets': data_sets,
    }


def made_picture(rng, kind, title):
    file = io.BytesIO()
    coarse = Image.fromarray(rng.integers(90, 240, (6, 15, 3), dtype=np.uint8))
    coarse.resize((1200, 480), Image.Resampling.BICUBIC).save(file, 'JPEG', quality=60)
    caption = 'Contours: truth green, prediction yellow. Dice of this image under each picture.'
    return Picture(kind, title, caption, 'Tissue, truth and the predictions of nine arms', file.getvalue(), 1200)
