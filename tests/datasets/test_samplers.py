import itertools
from collections import Counter

import pytest
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from mmgfnuc.datasets import SeededSampler
from mmgfnuc.errors import UserError

take = itertools.islice


class Echo:
    """A dataset whose samples are the keys that they are asked for by."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, key):
        return key


@pytest.fixture
def of_rank(monkeypatch):
    """Builds the sampler of one process out of several."""

    def build(size, rank=0, world=1, **arguments):
        monkeypatch.setattr('mmgfnuc.datasets.samplers.get_dist_info', lambda: (rank, world))
        return SeededSampler(Echo(size), **{'seed': 0} | arguments)

    return build


def indices(sampler):
    return [index for _, index in sampler]


def test_an_epoch_is_a_permutation_of_its_own(of_rank):
    sampler = of_rank(50)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch}
        assert sorted(indices(sampler)) == list(range(50))
        orders.append(indices(sampler))
    assert orders[0] != orders[1] != orders[2] != list(range(50))
    assert len({tuple(order) for order in orders}) == 3


def test_order_is_a_function_of_seed_and_epoch(of_rank):
    assert list(of_rank(20, seed=5)) == list(of_rank(20, seed=5))
    assert list(of_rank(20, seed=5)) != list(of_rank(20, seed=6))


def test_without_shuffling(of_rank):
    assert list(of_rank(3, shuffle=False)) == [(0, 0), (0, 1), (0, 2)]


def test_no_seed_given(of_rank):
    sampler = of_rank(20, seed=None)
    assert sorted(indices(sampler)) == list(range(20))
    assert list(sampler) == list(sampler)


@pytest.mark.parametrize(('size', 'world'), [(10, 3), (9, 3), (2, 4), (1, 5)])
def test_evaluation_repeats_no_sample(of_rank, size, world):
    shares = [indices(of_rank(size, rank, world, shuffle=False, round_up=False)) for rank in range(world)]
    assert sorted(itertools.chain(*shares)) == list(range(size))
    assert shares == [list(range(rank, size, world)) for rank in range(world)]
    for rank, share in enumerate(shares):
        assert len(of_rank(size, rank, world, round_up=False)) == len(share)


@pytest.mark.parametrize(('size', 'world', 'each'), [(10, 3, 4), (9, 3, 3), (2, 5, 1), (1, 3, 1)])
def test_training_gives_every_process_equally_many(of_rank, size, world, each):
    whole = indices(of_rank(size))
    shares = [indices(of_rank(size, rank, world)) for rank in range(world)]
    assert [len(share) for share in shares] == [each] * world
    assert len(of_rank(size, 0, world)) == each
    dealt = [index for turn in zip(*shares, strict=True) for index in turn]
    assert dealt == (whole * world * each)[: world * each]


def test_endless_stream_is_the_epochs_in_turn(of_rank):
    finite = of_rank(7)
    expected = []
    for epoch in range(4):
        finite.set_epoch(epoch)
        expected += list(finite)
    endless = of_rank(7, infinite=True)
    endless.set_epoch(3)
    assert list(take(endless, 28)) == expected
    assert len(endless) == 7


@pytest.mark.parametrize(('size', 'world'), [(7, 3), (6, 3), (2, 5)])
def test_processes_share_the_endless_stream_across_epochs(of_rank, size, world):
    whole = list(take(of_rank(size, infinite=True), 12 * world))
    shares = [list(take(of_rank(size, rank, world, infinite=True), 12)) for rank in range(world)]
    assert [key for turn in zip(*shares, strict=True) for key in turn] == whole


@pytest.mark.parametrize('done', [0, 1, 6, 7, 8, 100])
@pytest.mark.parametrize(('rank', 'world'), [(0, 1), (1, 3)])
def test_skip_continues_the_stream(of_rank, done, rank, world):
    expected = list(take(of_rank(7, rank, world, infinite=True), done, done + 20))
    resumed = of_rank(7, rank, world, infinite=True)
    resumed.skip(done)
    assert list(take(resumed, 20)) == expected


@pytest.mark.parametrize('workers', [0, 2])
def test_mmengine_resumes_at_the_next_batch(of_rank, workers):
    def batches():
        sampler = of_rank(7, infinite=True)
        return _InfiniteDataloaderIterator(
            DataLoader(Echo(7), batch_size=3, sampler=sampler, num_workers=workers, collate_fn=list)
        )

    expected = list(take(batches(), 9))
    resumed = batches()
    resumed.skip_iter(5)
    assert list(take(resumed, 4)) == expected[5:]


def test_a_finite_sampler_cannot_be_skipped(of_rank):
    with pytest.raises(UserError, match='infinite=True'):
        of_rank(7).skip(3)


def test_a_balanced_stream_draws_groups_and_their_images_equally_often(of_rank, monkeypatch):
    groups = ['liver'] * 6 + ['lung'] * 2 + ['skin'] * 3
    monkeypatch.setattr(Echo, 'group_of', property(lambda _: groups), raising=False)
    drawn = list(take(of_rank(11, infinite=True, balance=True), 3 * 36))
    assert [key[0] for key in drawn[:22]] == [0] * 11 + [1] * 11
    turns = [{groups[index] for _, index in drawn[start : start + 3]} for start in range(0, len(drawn), 3)]
    assert all(turn == set(groups) for turn in turns)
    counts = Counter(index for _, index in drawn)
    assert counts == {index: 36 // groups.count(group) for index, group in enumerate(groups)}
    rest = of_rank(11, infinite=True, balance=True)
    rest.skip(40)
    assert list(take(rest, 20)) == drawn[40:60]
    with pytest.raises(UserError, match='balance=True draws at random'):
        of_rank(11, shuffle=False, balance=True)
