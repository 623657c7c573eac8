"""What a study found, as one HTML file that needs no network: tables, figures and pictures for a reviewer."""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mmgfnuc.visualization.plots import (
    ForestRow,
    calibration_plot,
    forest_plot,
    gate_plot,
    pareto_plot,
    violin_plot,
)

from .pictures import Picture
from .storage import COMPARED, SCORES

Chapter = Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """A column of the leaderboard: a measure is shown in a unit, which is so many of those it is kept in."""

    title: str
    unit: str
    factor: float = 1
    digits: int = 0


COSTS = {
    'parameters': Cost('Parameters', 'M', 1e-6, 2),
    'trained': Cost('of them trained', 'M', 1e-6, 2),
    'macs': Cost('Multiply-adds', 'G a tile', 1e-9, 2),
    'token_stride': Cost('Token stride', 'pixels'),
    'train_seconds': Cost('Training', 'minutes', 1 / 60, 1),
    'train_mb': Cost('Training memory', 'MB'),
    'inference_ratio': Cost('Inference', '× first arm', 1, 2),
    'inference_seconds': Cost('Inference', 'ms a tile', 1000, 1),
    'inference_mb': Cost('Inference memory', 'MB'),
}

# What the fusions of `configs/_base_/fusion` do, and what those that are controls show.
FUSIONS = {
    'none': 'The U-Net alone, without a foundation encoder.',
    'paper': "The block of the paper's text: a GLU gate, then attention whose queries come from the gated map, at the "
    'bottleneck.',
    'released': "The block of the paper's released code: a sigmoid gate, then attention whose queries come from the "
    'gated map, at the bottleneck.',
    'released-multilevel': "The second configuration of the paper's released code: gates within the encoder, at every "
    'level, under learned projections of the context; the bottleneck attends within its gated map.',
    'text': 'Every level is gated after the encoder, the bottleneck attends within its gated map. A variant of this '
    "project, which the paper's released code does not have.",
    'context': "Cross-attention from the gated local map to the foundation encoder's tokens, at the bottleneck.",
}
CONTROLS = {
    'add': 'The context is projected and added. Shows what comes from the features without gate and attention.',
    'concat': 'The context is projected, concatenated and convolved. Shows what comes from the features without gate '
    'and attention.',
    'gate-only': 'The gate of the paper without its attention.',
    'attention-only': 'The attention of the paper without its gate, so that no context enters. Shows what the '
    'additional layers bring.',
    'zero-context': 'The fusion context with zeros in place of the foundation features. Shows what the additional '
    'layers bring.',
    'shuffled-context-image': 'The fusion context with the foundation features of another image. Shows whether it '
    'matters that the encoder sees this image.',
    'shuffled-context-spatial': 'The fusion context with the foundation tokens at permuted positions. Shows whether '
    'it matters where the encoder sees something.',
}
RANDOM_WEIGHTS = (
    'The same encoder, not pretrained. Shows whether it matters what the encoder has learned, or only that it is there.'
)


@dataclass(frozen=True)
class Section:
    """A part of a chapter; the file `templates/sections/<name>.html.jinja` renders its content."""

    name: str
    title: str
    content: Any


def html_report(results: Mapping[str, Any], pictures: Mapping[str, Sequence[Picture]]) -> str:
    """Render a finished study.

    The text holds its style, script, figures and pictures, loads nothing, and can be read without the script, which
    only sorts the leaderboard. A section that has nothing to show is left out, with its line of the contents.

    Args:
        results: of the study, see `study_results`.
        pictures: of each data set, by its name; none of a data set that is not there.
    """
    chapters = [
        {
            'diverged': {},
            **chapter,
            'slug': slug(chapter['data']),
            'sections': sections(chapter, pictures.get(chapter['data'], ())),
        }
        for chapter in results['data_sets']
    ]
    return (
        _environment()
        .get_template('report.html.jinja')
        .render(
            title=results['title'],
            study=results['study'],
            provenance=results['provenance'],
            facts=_facts(results),
            chapters=chapters,
            fusions=_fusions(results),
            conditions=_conditions(results),
            compared=COMPARED,
            scores=SCORES,
            costs=COSTS,
        )
    )


def sections(chapter: Chapter, pictures: Sequence[Picture]) -> list[Section]:
    """Sections of a chapter that have something to show, in the order of the report."""
    made = [Section(name, title, make(chapter)) for name, (title, make) in SECTIONS.items()]
    made += [
        Section('pictures', title, {'source': chapter['source'], 'pictures': own})
        for kind, title in PICTURES.items()
        if (own := [picture for picture in pictures if picture.kind == kind])
    ]
    return [section for section in made if section.content]


def _leaderboard(chapter: Chapter) -> list[Mapping[str, Any]]:
    """Arms with the best Dice first."""
    return sorted(chapter['arms'], key=lambda arm: arm['scores']['dice']['mean'], reverse=True)


def _gains(chapter: Chapter) -> dict[str, Any]:
    return _forests(chapter['fusion_gains'], 'gain over the same U-Net without fusion')


def _differences(chapter: Chapter) -> dict[str, Any]:
    """Comparisons that are no gains of fusion: those of U-Nets and heads."""
    fused = {row['arm'] for rows in chapter['fusion_gains'].values() for row in rows}
    others = {score: [row for row in rows if row['arm'] not in fused] for score, rows in chapter['comparisons'].items()}
    return _forests(others, 'difference to the first arm')


def _controls(chapter: Chapter) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Of each arm and control: their comparisons by every score."""
    found = [{(row['arm'], row['baseline']): row for row in chapter['controls'][score]} for score in COMPARED]
    return {pair: [rows[pair] for rows in found] for pair in found[0]}


def _forests(comparisons: Mapping[str, Sequence[Mapping[str, Any]]], label: str) -> dict[str, Any]:
    """Figure and comparisons of each score."""
    return {
        title: (Markup(forest_plot([_forest_row(row) for row in comparisons[score]], f'{title}, {label}')), rows)
        for score, title in COMPARED.items()
        if (rows := comparisons.get(score))
    }


def _forest_row(row: Mapping[str, Any]) -> ForestRow:
    interval = None if row['interval'] is None else tuple(row['interval'])
    return ForestRow(row['arm'], row['mean_difference'], interval, row['significant'])


def _images(chapter: Chapter) -> Markup | None:
    scores = {arm['name']: arm['images']['dice'] for arm in chapter['arms']}
    return Markup(violin_plot(scores, 'Dice of an image')) if any(scores.values()) else None


def _trade_off(chapter: Chapter) -> Markup | None:
    points = {arm['name']: (arm['costs']['inference_ratio'], arm['scores']['dice']['mean']) for arm in chapter['arms']}
    return Markup(pareto_plot(points, 'time of a tile, in times of the first arm', 'Dice')) if len(points) > 1 else None


def _groups(chapter: Chapter) -> dict[str, Any]:
    """Of each score: a row of means for each group, and the largest difference to the baseline."""
    if len(chapter['groups']) < 2:
        return {}
    return {title: _group_table(chapter, score) for score, title in COMPARED.items()}


def _group_table(chapter: Chapter, score: str) -> tuple[dict[str, list[tuple[Any, Any]]], float]:
    differences = {row['arm']: row['by_group'] for row in chapter['comparisons'][score]}
    rows = {
        group: [
            (arm['groups'][score].get(group), differences.get(arm['name'], {}).get(group)) for arm in chapter['arms']
        ]
        for group in chapter['groups']
    }
    sizes = [abs(difference) for cells in rows.values() for _, difference in cells if difference]
    return rows, max(sizes, default=0.0)


def _calibration(chapter: Chapter) -> dict[str, Any]:
    arms = [arm for arm in chapter['arms'] if arm['calibration']['bins']]
    curves = {
        arm['name']: [(part['confidence'], part['frequency'], part['count']) for part in arm['calibration']['bins']]
        for arm in arms
    }
    return {'figure': Markup(calibration_plot(curves)), 'arms': arms} if arms else {}


def _gates(chapter: Chapter) -> dict[str, Any]:
    rows = [(arm['name'], gate) for arm in chapter['arms'] for gate in arm['gates']]
    histograms = {f'{name}, level {gate["level"]}': (gate['edges'], gate['counts']) for name, gate in rows}
    return {'figure': Markup(gate_plot(histograms)), 'rows': rows} if rows else {}


SECTIONS: dict[str, tuple[str, Callable[[Chapter], Any]]] = {
    'leaderboard': ('Leaderboard', _leaderboard),
    'gains': ('Gains of fusion', _gains),
    'differences': ('Arms without fusion', _differences),
    'controls': ('Against the controls', _controls),
    'images': ('Spread over images', _images),
    'trade_off': ('Score against time', _trade_off),
    'groups': ('Scores of the groups', _groups),
    'calibration': ('Calibration', _calibration),
    'gates': ('Gates', _gates),
}
PICTURES = {'features': 'Features before and after fusion', 'panel': 'Best, median and worst images'}


def _facts(results: Mapping[str, Any]) -> dict[str, int]:
    """Numbers that say how large a study is."""
    chapters, study = results['data_sets'], results['study']
    return {
        'arms': max(len(chapter['arms']) for chapter in chapters),
        'data sets': len(chapters),
        'images': sum(chapter['num_images'] for chapter in chapters),
        'groups': sum(len(chapter['groups']) for chapter in chapters),
        'splits': len(study['splits']),
        'seeds': len(study['seeds']),
        'steps': study['steps'],
    }


def _fusions(results: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """What the fusions of a study do, and whether each is a control; the user's own are not described."""
    arms = [arm for chapter in results['data_sets'] for arm in chapter['arms']]
    names = dict.fromkeys(arm['fusion'].replace('_', '-') for arm in arms)
    texts = {**FUSIONS, **CONTROLS}
    described = {name: (texts[name], name in CONTROLS or name == 'none') for name in names if name in texts}
    if any(arm['weights'] == 'random' for arm in arms):
        described['random weights'] = RANDOM_WEIGHTS, True
    return described


def _conditions(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """All that is needed to run a study again."""
    study, provenance = results['study'], results['provenance']
    return {
        'Command': [provenance['command']],
        'Date': [provenance['date']],
        'mmgfnuc': [provenance['package']],
        'Commit': provenance['commits'],
        'Hardware': provenance['hardware'],
        'Versions': [f'{name} {version}' for name, version in provenance['versions'].items()],
        'Code, SHA-256': [provenance['code_digest']],
        **{f'Data {data}, SHA-256': [digest] for data, digest in provenance['data_digests'].items()},
        **{f'Weights of {encoder}, SHA-256': [digest] for encoder, digest in provenance['weights'].items()},
        'Splits': study['splits'],
        'Seeds': [str(seed) for seed in study['seeds']],
        'Training': [f'{study["steps"]} steps of {study["batch_size"]} images'],
        **{
            f'Arm {arm["name"]}': [json.dumps(arm['parts']) if arm['parts'] else 'as the presets are']
            for arm in results['data_sets'][0]['arms']
        },
        'Precision': ['bfloat16 autocast' if study['amp'] else 'float32'],
    }


@cache
def _environment() -> Environment:
    loader = PackageLoader('mmgfnuc.studies')
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(fixed=fixed, signed=signed, breakable=breakable, slug=slug, data_uri=data_uri)
    return environment


def fixed(value: float | None, digits: int = 3) -> str:
    """Write a number with so many decimals, and a dash where there is none."""
    return '–' if value is None else f'{value:,.{digits}f}'.replace('-', '−')


def signed(value: float | None) -> str:
    """Write a difference with its sign."""
    return '–' if value is None else f'{value:+.3f}'.replace('-', '−')


def breakable(name: str) -> Markup:
    """Let names of arms break behind their slashes, and nowhere else where they fit."""
    return Markup(re.sub(r'[^\s/]+/', r'<span class="part">\g<0></span>', str(escape(name))))


def slug(text: str) -> str:
    """Make the id of an element."""
    return re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')


def data_uri(picture: Picture) -> str:
    """Put a picture into an address."""
    return f'data:{picture.media_type};base64,{base64.b64encode(picture.image).decode()}'
