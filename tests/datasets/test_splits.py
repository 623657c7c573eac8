"""Splits: no group on both sides, nothing lost, and the official folds are scikit-learn's."""

import random

import numpy as np
import pytest
from sklearn.model_selection import KFold

from mmgfnuc.datasets.splits import group_holdout, grouped_folds, official_nuinsseg_folds
from mmgfnuc.errors import UserError

GROUPS = {'r2': 'human rectum', 'k1': 'human kidney', 'r1': 'human rectum', 'm1': 'mouse heart', 'l1': 'human lung'}


def test_holdout_keeps_groups_whole():
    split = group_holdout(GROUPS, ['human rectum', 'mouse heart'])
    assert split == {'train': ['k1', 'l1'], 'val': ['m1', 'r1', 'r2']}


def test_unknown_group_gets_the_nearest_name_or_all_of_them():
    with pytest.raises(UserError, match="group='human_rectum' is unknown; did you mean human rectum"):
        group_holdout(GROUPS, ['human_rectum'])
    with pytest.raises(UserError, match='choose one of human kidney, human lung, human rectum, mouse heart'):
        group_holdout(GROUPS, ['zzz'])


@pytest.mark.parametrize('val_groups', [[], sorted(set(GROUPS.values()))])
def test_holdout_of_none_or_all_is_refused(val_groups):
    with pytest.raises(UserError, match='at least one on each side'):
        group_holdout(GROUPS, val_groups)


def test_folds_partition_the_ids_and_never_cut_a_group():
    rng = np.random.default_rng(0)
    groups = {f'id{i}': f'slide{rng.integers(11)}' for i in range(90)}
    folds = grouped_folds(groups, 4)
    assert sorted(i for fold in folds for i in fold['val']) == sorted(groups)
    for fold in folds:
        assert sorted(fold['train'] + fold['val']) == sorted(groups)
        assert not {groups[i] for i in fold['train']} & {groups[i] for i in fold['val']}


def test_folds_do_not_depend_on_the_order_of_the_ids():
    groups = {f'id{i}': f'slide{i % 7}' for i in range(40)}
    shuffled = list(groups.items())
    random.Random(0).shuffle(shuffled)
    assert grouped_folds(dict(shuffled), 3) == grouped_folds(groups, 3)


@pytest.mark.parametrize('k', [1, 5])
def test_impossible_number_of_folds_is_refused(k):
    with pytest.raises(UserError, match=f'{k} folds of 4 groups; choose 2 to 4'):
        grouped_folds(GROUPS, k)


def full_nuinsseg():
    """665 fake ids in 31 organs; the underscore sorts after the space, so ids alone would give another order."""
    organs = [f'human o{n:02d}' for n in range(15)] + [f'human_x o{n:02d}' for n in range(16)]
    files = [(organs[i % 31], f'{organs[i % 31].replace(" ", "_")}_{i // 31 + 1}') for i in range(665)]
    return [organ for organ, _ in files], [name for _, name in files]


def test_official_folds_are_kfold_over_the_files_as_a_sorted_glob_lists_them():
    organs, ids = full_nuinsseg()
    paths = sorted(f'{organ}/tissue images/{name}.png' for organ, name in zip(organs, ids, strict=True))
    in_order = [path.split('/')[-1].removesuffix('.png') for path in paths]
    expected = [
        ([in_order[i] for i in train], [in_order[i] for i in val])
        for train, val in KFold(n_splits=5, shuffle=True, random_state=19).split(in_order)
    ]
    folds = official_nuinsseg_folds(dict(zip(ids, organs, strict=True)))
    assert [(fold['train'], fold['val']) for fold in folds] == expected
    assert [len(fold['val']) for fold in folds] == [133] * 5


def test_official_folds_need_all_images():
    with pytest.raises(UserError, match='5 images; the official folds need all 665'):
        official_nuinsseg_folds(GROUPS)
