"""The card of a ready model says what its two files say, and nothing of them is anything but text."""

from copy import deepcopy
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from mmgfnuc.errors import UserError
from mmgfnuc.files import write_json
from mmgfnuc.inference.card import make_card, read_metrics

from .ready_files import CONFIG, METRICS


def tables(card):
    """Cells of each table."""
    tokens = MarkdownIt('commonmark').enable('table').parse(card)
    found = []
    for token, inside in pairwise(tokens):
        if token.type == 'table_open':
            found.append([])
        elif token.type == 'tr_open':
            found[-1].append([])
        elif token.type in ('td_open', 'th_open'):
            found[-1][-1].append(inside.content)
    return found


def test_the_tables_are_those_of_the_metrics():
    data, scores, groups, sizes, lost = tables(make_card(CONFIG, METRICS))
    assert data[1][:3] == ['own', '9', 'CC0']
    assert scores[1][1:] == ['0.500 (0.250 to 0.750)'] * 4
    # The best group first; of 10 true nuclei 1 is merged, 2 are split and 3 are lost; of 8 predicted 1 is false.
    assert groups[1] == ['skin', '3', '10', *['0.625'] * 4]
    assert lost[2] == ['skin', '40 %', '10 %', '20 %', '30 %', '12 %']
    assert [size[0] for size in sizes[1:]] == ['0.25', '0.5']
    assert [size[-2:] for size in sizes[1:]] == [['8', '1.00'], ['10', '1.25']]


def test_text_of_others_stays_text():
    html = MarkdownIt('commonmark').enable('table').render(make_card(CONFIG, METRICS))
    assert '<script' not in html
    assert 'href="javascript' not in html
    assert html.count('<pre>') == 2


def test_whose_scores_these_are():
    of_another = make_card(CONFIG, METRICS)
    own = [make_card({**CONFIG, name: 'def'}, METRICS) for name in ('checkpoint_sha256', 'weights_sha256')]
    assert own[0] == own[1]
    assert len(set(of_another.splitlines()) ^ set(own[0].splitlines())) == 2
    assert not tables(make_card(CONFIG, None))[1:]


def test_scores_that_may_not_be_those_of_the_model_on_new_images():
    own = {**CONFIG, 'checkpoint_sha256': 'def'}
    data_of_training = METRICS | {'data': [{**METRICS['data'][0], 'name': 'own'}]}
    assert 'Of these groups, 2 are also' in make_card(own, data_of_training)
    assert 'are also' not in make_card(own, METRICS)
    assert 'are also' not in make_card(CONFIG, data_of_training)
    options = {'model.test_cfg.scale': 0.5, 'model.test_cfg.flips': True}
    flipped = METRICS | {'settings': {'cfg_options': options}}
    assert 'other settings than this one: `model.test_cfg.flips=True`.' in make_card(own, flipped)


@pytest.mark.parametrize('part', ['groups', 'scores', 'truth', 'worst', 'made', 'format'])
def test_damaged_metrics_are_refused(tmp_path, part):
    for wrong in (None, 7, 'text'):
        write_json(tmp_path / 'metrics.json', METRICS | {part: wrong})
        with pytest.raises(UserError, match=r'metrics\.json'):
            read_metrics(tmp_path / 'metrics.json')


@pytest.mark.parametrize(
    'picture', ['../1.jpg', '/etc/1.jpg', 'pictures/../1.jpg', 'javascript:1.jpg', 'pictures/1.jpg\n', 7]
)
def test_pictures_lie_in_their_folder(tmp_path, picture):
    write_json(tmp_path / 'metrics.json', METRICS | {'worst': [{**METRICS['worst'][0], 'picture': picture}]})
    with pytest.raises(UserError, match='picture'):
        read_metrics(tmp_path / 'metrics.json')


@pytest.mark.parametrize('path', [('groups', 'skin'), ('scores', 'dice'), ('pixel_sizes', 0), ('worst', 0)])
def test_metrics_that_are_damaged_deep_within_make_no_card(path):
    metrics = deepcopy(METRICS)
    metrics[path[0]][path[1]] = {'scores': 3}
    with pytest.raises(UserError, match='the card cannot be made'):
        make_card(CONFIG, metrics)
