"""The report of a study as Markdown: all its numbers, without its pictures."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mmgfnuc.visualization.markdown import code, fenced, prose, table_lines

from .conclusions import score_text, steps_text
from .storage import COMPARED, SCORES

COSTS = (
    'parameters (M)',
    'trained (M)',
    'MACs of a tile (G)',
    'token stride (pixels)',
    'minutes of training',
    'memory of training (MB)',
    'time of inference (ms a tile)',
    'over the first arm',
    'memory of inference (MB)',
)
PROTOCOL = (
    'Every arm has the same steps, schedule, augmentation, splits and seeds, unless its name says otherwise; the last '
    'checkpoint is scored, once. Images are averaged over seeds, then within groups. An arm with fusion is compared '
    'with the same arm without, '
    'where the study has it, every other one with the first; arms with their controls apart. Intervals (in brackets) '
    'are 95 % intervals of means over groups; they hold the variation between groups and, with two seeds or more, the '
    'luck of training. Those of differences are simultaneous: they are widened for the number of comparisons of one '
    'score. A difference is called significant where this interval excludes 0, and not otherwise. Groups of a fold are '
    'scored by the same networks: that all of them agree may be luck of training. Minutes of training are medians over '
    'runs, with whatever else the machine did at the time; inference is timed on one tile of noise, by turns with the '
    'first arm.'
)


def markdown_report(results: Mapping[str, Any]) -> str:
    """Render the results of a study, see `study_results`."""
    parts = [f'# {prose(results["title"])}']
    for data_set in results['data_sets']:
        heading = [f'## Data set: {prose(data_set["data"])}'] if len(results['data_sets']) > 1 else []
        parts += [*heading, *_data_set(data_set)]
    return '\n\n'.join([*parts, '## How to read it', PROTOCOL, *_conditions(results)]) + '\n'


def _data_set(data_set: Mapping[str, Any]) -> list[str]:
    arms = data_set['arms']
    diverged = data_set['diverged']
    parts = [
        '\n'.join(f'- {prose(sentence)}' for sentence in data_set['conclusion']),
        _leaderboard(arms, diverged),
        _costs(arms),
    ]
    if diverged:
        parts += [
            '### Diverged runs',
            '\n'.join(f'- {code(arm)} {prose(run)}' for arm in diverged for run in diverged[arm]['runs']),
        ]
    for score, title in COMPARED.items():
        parts += [f'### {title}', *_comparisons(data_set, score)]
        if data_set['left_out'][score]:
            parts.append(f'{data_set["left_out"][score]} images have no {title} in some arm and are left out.')
    parts += ['### Dice by group', _by_group(data_set), '### All scores', _all_scores(arms)]
    return [*parts, '### Inside the models', _inside(arms)]


def _leaderboard(arms: Sequence[Mapping[str, Any]], diverged: Mapping[str, Mapping[str, Any]]) -> str:
    order = sorted(arms, key=lambda arm: arm['scores']['dice']['mean'], reverse=True)
    rows = [[code(arm['name']), *(score_text(arm, score) for score in COMPARED)] for arm in order]
    rows += [[code(arm), *['diverged'] * len(COMPARED)] for arm in diverged]
    return table_lines(['arm', *COMPARED.values()], rows)


def _costs(arms: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for arm in arms:
        costs = arm['costs']
        stride = 'none' if costs['token_stride'] is None else f'{costs["token_stride"]:g}'
        rows.append(
            [
                code(arm['name']),
                f'{costs["parameters"] / 1e6:.2f}',
                f'{costs["trained"] / 1e6:.2f}',
                f'{costs["macs"] / 1e9:.2f}',
                stride,
                'cached' if costs['train_seconds'] is None else f'{costs["train_seconds"] / 60:.1f}',
                f'{costs["train_mb"]:,}',
                f'{costs["inference_seconds"] * 1000:.0f}',
                f'{costs["inference_ratio"]:.2f}',
                f'{costs["inference_mb"]:.0f}',
            ]
        )
    return table_lines(['arm', *COSTS], rows)


def _comparisons(data_set: Mapping[str, Any], score: str) -> list[str]:
    lines = []
    for name, heading in (('comparisons', ''), ('controls', 'Against the controls:')):
        founds = data_set[name][score]
        if founds:
            lines += [heading] if heading else []
            lines.append('\n'.join(f'- {prose(found["words"])}' for found in founds))
    return lines or ['One arm: there is nothing to compare it with.']


def _by_group(data_set: Mapping[str, Any]) -> str:
    arms = data_set['arms']
    rows = [[prose(group), *(f'{arm["groups"]["dice"][group]:.3f}' for arm in arms)] for group in data_set['groups']]
    return table_lines(['group', *(code(arm['name']) for arm in arms)], rows)


def _all_scores(arms: Sequence[Mapping[str, Any]]) -> str:
    rows = [[code(arm['name']), *(f'{arm["scores"][score]["mean"]:.3f}' for score in SCORES)] for arm in arms]
    return table_lines(['arm', *SCORES.values()], rows)


def _inside(arms: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for arm in arms:
        calibration = arm['calibration']
        errors = ['none' if calibration[score] is None else f'{calibration[score]:.4f}' for score in ('ece', 'brier')]
        rows.append([code(arm['name']), *errors, '; '.join(_gate(gate) for gate in arm['gates']) or 'none'])
    return table_lines(['arm', 'ECE', 'Brier score', 'gates'], rows)


def _gate(gate: Mapping[str, Any]) -> str:
    attention = '' if gate['entropy'] is None else f', attention entropy {gate["entropy"]:.2f} of its maximum'
    return f'level {gate["level"]}: {gate["mean"]:.3f} ± {gate["std"]:.3f}{attention}'


def _conditions(results: Mapping[str, Any]) -> list[str]:
    study, made = results['study'], results['provenance']
    steps = steps_text(study, results['data_sets'][0]['arms'])
    weights = ', '.join(f'{encoder} {digest}' for encoder, digest in made['weights'].items())
    data_sets = [
        f'{prose(data_set["data"])}: {data_set["num_images"]} images of {len(data_set["groups"])} groups '
        f'({prose(", ".join(data_set["groups"]))}), SHA-256 {made["data_digests"][data_set["data"]]}. '
        f'Images: {prose(data_set["source"])}.'
        for data_set in results['data_sets']
    ]
    return [
        '## Conditions',
        f'{steps} of {study["batch_size"]} images{" under bfloat16 autocast" * study["amp"]}; splits '
        f'{prose(", ".join(study["splits"]))}; seeds {", ".join(map(str, study["seeds"]))}.',
        '\n'.join(f'- {line}' for line in data_sets),
        '\n'.join(f'- {code(arm["name"])}: {_parts(arm["parts"])}' for arm in results['data_sets'][0]['arms']),
        f'{"; ".join(made["hardware"])}. Commit {", ".join(made["commits"])}, code {made["code_digest"][:12]}. '
        f'{", ".join(f"{name} {version}" for name, version in made["versions"].items())}. {made["date"]}.',
        *([f'Weights, SHA-256: {weights}.'] if weights else []),
        fenced(made['command']),
    ]


def _parts(parts: Mapping[str, Any]) -> str:
    """Settings that an arm has besides those of the presets that its name says."""
    return code(json.dumps(parts)) if parts else 'as the presets are'
