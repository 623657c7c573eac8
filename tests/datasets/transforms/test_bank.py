from collections import Counter

import numpy as np
import pytest

from mmgfnuc.datasets.transforms import AugmentationBank
from mmgfnuc.errors import UserError

VARIANTS = 3
DRAWS = 200


def draw(name, seed, variants=VARIANTS):
    """What a random transform after the bank draws."""
    results = AugmentationBank(variants)({'img_id': name, 'rng': np.random.default_rng(seed)})
    return tuple(results['rng'].random(5))


def test_an_image_has_a_fixed_set_of_variants():
    first, second = (Counter(draw('a', seed) for seed in range(start, start + DRAWS)) for start in (0, DRAWS))
    assert len(first) == VARIANTS
    assert set(first) == set(second)
    # Each as likely: at most four standard deviations from a third.
    assert all(abs(count - DRAWS / VARIANTS) < 4 * (DRAWS * 2 / 9) ** 0.5 for count in first.values())


def test_images_have_variants_of_their_own():
    assert not {draw('a', seed) for seed in range(DRAWS)} & {draw('b', seed) for seed in range(DRAWS)}


def test_more_variants_keep_the_first():
    few = {draw('a', seed) for seed in range(DRAWS)}
    assert few < {draw('a', seed, variants=6) for seed in range(DRAWS)}


def test_none_is_refused():
    with pytest.raises(UserError, match='variants=0: give 1 or more'):
        AugmentationBank(0)
