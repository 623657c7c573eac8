"""The card of a ready model, as Markdown: all of it is made of its config.json and metrics.json."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.files import read_json
from mmgfnuc.visualization.markdown import code, fenced, prose, table_lines

# Scores of metrics.json -> heading of a column.
SCORES = {'dice': 'Dice', 'aji': 'AJI', 'pq': 'PQ', 'detection_f1': 'detection F1'}
# Nuclei of an image that is shown among the worst: with fewer, one that is lost makes it one of them.
FEWEST = 5
# Of an image that fails, beside metrics.json.
PICTURE = re.compile(r'pictures/[0-9]+\.jpg')
DAMAGED = 'score the model again with mmgfnuc score'
PARTS = dict(format=int, model=dict, data=list, settings=dict, made=dict, images=int, scores=dict, groups=dict)
LISTS = dict(truth=dict, predicted=dict, worst=list)
PURPOSE = """## What it is for

Finding and measuring cell nuclei in microscope images of tissue sections stained with hematoxylin and eosin (H&E), in
research: counts, outlines, shapes. Look at the overlays of your own images before you use the numbers, and count a few
fields by hand.

## What it must not be used for

- Diagnosis, or any decision about a patient: it is research software, not a medical device.
- Other stains and microscopes, such as immunohistochemistry, fluorescence or cytology. It warns of images whose colours
  or sharpness are unlike those of its training images, but not of every such image.
- To tell tumour from normal cells, or one kind of cell from another, unless its classes do.
- Organs, scanners and laboratories that nobody has checked it on: scores differ much between groups."""
READING = """Means over images; in brackets the 95 % interval by the bootstrap over groups, which leaves out the luck of
training. Dice is that of all pixels of nuclei. AJI, PQ and detection F1 are of single nuclei; those of PQ match above
an IoU of 0.5, those of detection within 3 um, or 12 pixels where the pixel size is unknown."""
FALSE = 'false positive'
LOST = """A nucleus is matched if its IoU with one of the other side is above 0.5; else it is merged with a neighbour,
or split, or a false negative (true) or false positive (predicted)."""


def read_metrics(path: Path) -> dict[str, Any]:
    """Read a metrics.json of `mmgfnuc score`.

    Raises:
        UserError: it is missing, damaged, or of another version.
    """
    metrics = read_json(path, DAMAGED, **PARTS, **LISTS)
    if metrics['format'] != 1:
        raise UserError(f'{path} has format {metrics["format"]!r}, this version reads 1; {DAMAGED}')
    for image in metrics['worst']:
        picture = image.get('picture') if isinstance(image, dict) else image
        if not (isinstance(picture, str) and PICTURE.fullmatch(picture)):
            raise UserError(f'{path} is damaged: {picture!r:.60} is not a picture of pictures/; {DAMAGED}')
    return metrics


def make_card(
    config: Mapping[str, Any], metrics: Mapping[str, Any] | None = None, speed: Mapping[str, Any] | None = None
) -> str:
    """Write card.md.

    Args:
        config: of config.json.
        metrics: of metrics.json; without, the card says that scores are missing.
        speed: a record of benchmarks/predict.py with this model.

    Raises:
        UserError: a part of them is missing or of a wrong type.
    """
    try:
        parts = [*_model(config), PURPOSE, *_data(config), *_pixel_size(config), *_scores(config, metrics)]
        return '\n\n'.join([*parts, *_speed(speed), *_made(config, metrics)]) + '\n'
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f'the card cannot be made: config.json or metrics.json is damaged ({error!r:.80}); publish the model again'
        ) from error


def summary(metrics: Mapping[str, Any]) -> str:
    """Put what a reader of metrics.json wants first into a few lines."""
    lines = [f'{metrics["images"]} images of {len(metrics["groups"])} groups, {sum(metrics["truth"].values())} nuclei']
    lines += [f'{title:13}{_interval(metrics["scores"][name])}' for name, title in SCORES.items()]
    lines += [
        f'{kind} nuclei: {_counts(metrics[key])}' for kind, key in (('true', 'truth'), ('predicted', 'predicted'))
    ]
    for size in metrics.get('pixel_sizes', ()):
        found = ', '.join(f'{title} {_number(size["scores"][name]["mean"])}' for name, title in SCORES.items())
        lines.append(f'at {size["mpp"]:g} um per pixel: {found}, {sum(size["predicted"].values())} nuclei')
    return '\n'.join(lines)


def _model(config: Mapping[str, Any]) -> Iterator[str]:
    size = f' It has {config["parameters"] / 1e6:.1f} million parameters.' if 'parameters' in config else ''
    classes = ', '.join(map(prose, config['preprocessing']['classes'][1:]))
    yield f'# {prose(config["name"])}'
    yield f'A ready model of mmgfnuc for tissue images stained with H&E. It finds: {classes}.{size}'
    yield fenced(f'mmgfnuc predict images/ --model {config["name"]} --out results')


def _data(config: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [prose(data['name']), f'{data["images"]:,}', *(prose(data[key]) for key in ('licence', 'citation'))]
        for data in config['data']
    ]
    yield '## Data and licences'
    yield table_lines(['trained on', 'images', 'licence', 'citation'], rows)
    for data in config['data']:
        if data['groups']:
            yield f'Groups of {prose(data["name"])}: {", ".join(map(prose, data["groups"]))}.'
    if config['pretrained']:
        names = ('part', 'name', 'licence', 'address')
        yield table_lines(
            ['began with', 'weights', 'licence', 'address'],
            [[prose(part[key]) for key in names] for part in config['pretrained']],
        )
    yield f'Licence of the weights: {prose(config["licence"])}.'


def _pixel_size(config: Mapping[str, Any]) -> Iterator[str]:
    preprocessing = config['preprocessing']
    mpp, diameter = preprocessing['mpp'], preprocessing.get('nucleus_diameter_um')
    yield '## Size of a pixel'
    if mpp is None:
        yield 'The training images state none: images are taken as they are, whatever the size of their pixels.'
        return
    yield (
        f'The training images count as {mpp:g} um per pixel. Images whose pixel size is known are resampled to that; '
        'where it is unknown, it is taken from the size of the nuclei, and a notice says so.'
    )
    if diameter:
        yield f'At that size the median nucleus of the training images is {diameter:.1f} um wide.'
    unstated = ', '.join(prose(data['name']) for data in config['data'] if not data['mpp'])
    if unstated:
        yield f'The pixel size is not stated by {unstated}: it was chosen so that nuclei have their usual size.'


def _scores(config: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> Iterator[str]:
    yield '## Scores'
    if metrics is None:
        yield 'This model comes without scores on held-out images.'
        return
    names = ', '.join(f'{prose(data["name"])} ({data["images"]} images)' for data in metrics['data'])
    nuclei = sum(metrics['truth'].values())
    yield f'On {names}: {nuclei:,} nuclei of {len(metrics["groups"])} groups.'
    yield from _whose(config, metrics)
    of_groups = [_number(score['mean_of_groups']) for score in _in_order(metrics)]
    rows = [['all images', *map(_interval, _in_order(metrics))], ['each group alike', *of_groups]]
    yield table_lines(['', *SCORES.values()], rows)
    yield READING
    yield '### By group'
    yield _group_table(metrics['groups'])
    if metrics.get('pixel_sizes'):
        yield from _pixel_sizes(metrics['pixel_sizes'])
    yield from _failures(metrics)


def _whose(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> Iterator[str]:
    if metrics['model']['sha256'] not in (config.get('checkpoint_sha256'), config.get('weights_sha256')):
        yield (
            'The scores are those of another training by the same recipe, which had not seen these images. The weights '
            'that you get were trained afterwards, and may have seen them: no score of theirs on these images would '
            'count.'
        )
    else:
        yield 'The scored model is this one.'
        seen = _seen_groups(config, metrics)
        if seen:
            yield (
                f'Of these groups, {len(seen)} are also among those of the data that it was trained on. Their scores '
                'count only if a split kept them out of the training.'
            )
    settings = _other_settings(config, metrics)
    if settings:
        yield f'The scored model had other settings than this one: {settings}.'


def _seen_groups(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> set[str]:
    """Give groups that were scored, of data sets that the model was trained on."""
    scored = {data['name'] for data in metrics['data']}
    seen = {group for data in config['data'] if data['name'] in scored for group in data['groups']}
    return seen & {*metrics['groups']}


def _other_settings(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    own = config['model'].get('test_cfg') or {}
    options = metrics['settings']['cfg_options']
    other = {key: value for key, value in options.items() if own.get(key.rpartition('.')[2]) != value}
    return ', '.join(code(f'{key}={value}') for key, value in other.items())


def _best_first(groups: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(groups.items(), key=lambda item: -(item[1]['scores']['aji']['mean'] or 0))


def _group_table(groups: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [prose(name), str(group['images']), f'{sum(group["truth"].values()):,}']
        + [_number(score['mean']) for score in _in_order(group)]
        for name, group in _best_first(groups)
    ]
    return table_lines(['group', 'images', 'nuclei', *SCORES.values()], rows)


def _lost_table(metrics: Mapping[str, Any]) -> str:
    rows = [
        [name, *(_share(group['truth'], state) for state in group['truth']), _share(group['predicted'], FALSE)]
        for name, group in [('all', metrics), *((prose(name), one) for name, one in _best_first(metrics['groups']))]
    ]
    return table_lines(['of the true nuclei', *metrics['truth'], f'{FALSE}, of the predicted'], rows)


def _pixel_sizes(sizes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    finest = sum(sizes[0]['predicted'].values())
    rows = []
    for size in sizes:
        found = sum(size['predicted'].values())
        ratio = f'{found / finest:.2f}' if finest else '–'
        rows.append([f'{size["mpp"]:g}', *map(_interval, _in_order(size)), f'{found:,}', ratio])
    yield '### At other pixel sizes'
    yield 'The same images, resampled with their truth before they are given to the model, which is told the size.'
    over = f'over those at {sizes[0]["mpp"]:g}'
    yield table_lines(['um per pixel', *SCORES.values(), 'nuclei found', over], rows)


def _failures(metrics: Mapping[str, Any]) -> Iterator[str]:
    yield '## What it fails on'
    yield LOST
    yield _lost_table(metrics)
    if not metrics['worst']:
        return
    yield f'The images of lowest AJI, one of a group, of those with at least {FEWEST} true nuclei:'
    for image in metrics['worst']:
        yield f'**{prose(image["group"])}**, {code(image["image"])}, AJI {_number(image["scores"]["aji"])}'
        yield f'![Tissue, truth, prediction and errors]({image["picture"]})'


def _speed(record: Mapping[str, Any] | None) -> Iterator[str]:
    if record is None:
        return
    (row,) = record['rows']
    yield '## Speed'
    yield (
        f'{row["megapixels_per_s"]:.2f} megapixels of image a second from file to measures, several images at a time. '
        f'That takes {row["way_vs_network"]:.2f} times as long as the network alone on a tile after the other, '
        f'{row["way_vs_networks"]:.2f} times as long as on several tiles at a time, and '
        f'{row["peak_memory_mb"]:,.0f} MB of memory at most; {record["settings"]["threads"]} threads of '
        f'{prose(record["hardware"])}, {record["date"]}.'
    )


def _made(config: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> Iterator[str]:
    yield '## How it was made'
    yield f'Versions: {", ".join(f"{prose(name)} {prose(one)}" for name, one in config["versions"].items())}.'
    if metrics is not None:
        made = metrics['made']
        commit = f' at commit {made["commit"][:7]}' if made['commit'] else ''
        yield f'Scored on {made["date"]}{commit} by'
        yield fenced(made['command'])


def _in_order(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [summary['scores'][name] for name in SCORES]


def _number(value: float | None) -> str:
    return '–' if value is None else f'{value:.3f}'


def _interval(score: Mapping[str, Any]) -> str:
    ends = score['interval']
    return _number(score['mean']) + (f' ({ends[0]:.3f} to {ends[1]:.3f})' if ends else '')


def _share(states: Mapping[str, int], state: str) -> str:
    total = sum(states.values())
    return f'{100 * states[state] / total:.0f} %' if total else '–'


def _counts(states: Mapping[str, int]) -> str:
    return ', '.join(f'{count} {state}' for state, count in states.items())
