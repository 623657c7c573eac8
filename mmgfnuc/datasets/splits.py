"""Splits of a dataset into parts, built from the group (slide, patient or organ) of each image.

Images of one group share stain, scanner and tissue: a group that stands in two parts lets a model be scored on
what it was trained on. Source: over scikit-learn's splitters.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from mmgfnuc.errors import UserError
from mmgfnuc.names import unknown_name

Split = dict[str, list[str]]

NUINSSEG_IMAGES = 665


def group_holdout(groups: Mapping[str, str], val_groups: Iterable[str]) -> Split:
    """Hold whole groups out: ids of `val_groups` form `val`, all others `train`; both sorted.

    Args:
        groups: Group of each id.
        val_groups: Names of the groups held out.

    Raises:
        UserError: The dataset has no group of a name (the nearest names are proposed), or a part would be empty.

    """
    held_out = set(val_groups)
    known = set(groups.values())
    unknown = sorted(held_out - known)
    if unknown:
        raise UserError('; '.join(str(unknown_name('group', name, sorted(known))) for name in unknown))
    if not held_out or held_out == known:
        raise UserError(f'{len(held_out)} of {len(known)} groups held out; leave at least one on each side')
    return {
        'train': sorted(i for i, group in groups.items() if group not in held_out),
        'val': sorted(i for i, group in groups.items() if group in held_out),
    }


def grouped_folds(groups: Mapping[str, str], k: int) -> list[Split]:
    """Cut the dataset into `k` folds of nearly equal image count, each group whole in one fold.

    Fold i is `val` of split i, the rest its `train`. Nothing is drawn at random: equal input, equal folds.

    Args:
        groups: Group of each id.
        k: Number of folds.

    Raises:
        UserError: `k` is not within 2 and the number of groups.

    """
    count = len(set(groups.values()))
    if not 2 <= k <= count:
        raise UserError(f'{k} folds of {count} groups; choose 2 to {count}, a group is never cut')
    ids = sorted(groups)
    from sklearn.model_selection import GroupKFold

    return _splits(ids, GroupKFold(n_splits=k).split(ids, groups=[groups[i] for i in ids]))


def official_nuinsseg_folds(groups: Mapping[str, str]) -> list[Split]:
    """The five folds of the NuInsSeg paper: `KFold(n_splits=5, shuffle=True, random_state=19)` over all 665 images.

    File order: the paper fixes the splitter but not the order of the files it cuts. Here they are sorted by
    (organ folder, file name) in code-point order, the order of a sorted glob `*/tissue images/*.png`. That the
    authors' own runs took the same order is likely but not verified.

    The folds are not grouped: images of one organ (one slide) stand in `train` and in `val`, so scores on them
    compare with the published ones but are optimistic for unseen slides.

    Args:
        groups: Organ folder of each id; the id is the file name without its suffix.

    Raises:
        UserError: There are not exactly 665 images.

    Source: Mahbod et al., Scientific Data 11, 295 (2024), technical validation.

    """
    if len(groups) != NUINSSEG_IMAGES:
        raise UserError(f'{len(groups)} images; the official folds need all {NUINSSEG_IMAGES}, get the full NuInsSeg')
    ids = sorted(groups, key=lambda i: (groups[i], f'{i}.png'))
    from sklearn.model_selection import KFold

    return _splits(ids, KFold(n_splits=5, shuffle=True, random_state=19).split(ids))


def find_leaks(parts: Split, groups: Mapping[str, str], digests: Mapping[str, str]) -> list[str]:
    """What stands in more than one part of a split: a line for each group, and one for each image of equal content.

    Args:
        parts: The split.
        groups: Group of each id.
        digests: Hash of the pixels of each id's image.
    """
    leaks = []
    for kind, keys in (('group', groups), ('image', digests)):
        seen: dict[str, dict[str, str]] = defaultdict(dict)
        for part, ids in parts.items():
            for sample_id in ids:
                if sample_id in keys:
                    seen[keys[sample_id]].setdefault(part, sample_id)
        for key, members in seen.items():
            if len(members) > 1:
                what = f'group {key!r}' if kind == 'group' else 'one image'
                places = ', '.join(f'{part} ({sample_id})' for part, sample_id in members.items())
                leaks.append(f'{what} stands in several parts: {places}')
    return leaks


def _splits(ids: Sequence[str], folds: Iterable[tuple[Sequence[int], Sequence[int]]]) -> list[Split]:
    return [{'train': [ids[i] for i in train], 'val': [ids[i] for i in val]} for train, val in folds]
