"""The order in which samples are drawn, and the epoch that they are drawn in."""

import itertools
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmgfnuc.errors import UserError
from mmgfnuc.registry import DATA_SAMPLERS


def _members(dataset: Any) -> list[list[int]]:
    """Indices of the images of each group, groups by name."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(dataset.group_of):
        members.setdefault(group, []).append(index)
    return [members[group] for group in sorted(members)]


@DATA_SAMPLERS.register_module()
class SeededSampler(Sampler):
    """Yields (epoch, index): the order of an epoch is a function of (seed, epoch), split over the processes.

    Process r of w takes positions r, r + w, r + 2w, ... of the order. The epoch travels with the index because a
    dataset that lives in long-lived worker processes would not learn of it otherwise.

    With `infinite=True` the orders of epochs 0, 1, 2, ... follow each other in one endless stream, which the
    processes share out across the seams: w processes with batch b see what one process with batch w b sees. This is
    the form for loops that count iterations; a run resumed there continues the stream where it stopped (`skip`).

    Args:
        dataset: What is sampled; only its length is used.
        shuffle: Permute every epoch; else ascending.
        seed: Seed of the permutations; None draws one and shares it between the processes.
        round_up: Repeat the first samples until every process has equally many, as training needs; False leaves the
            shares unequal by up to one sample and repeats none, as evaluation needs. Has no effect if `infinite`.
        infinite: Do not end after one epoch.
        balance: Draw every group (organ, slide or patient) equally often, each image of a group equally often: an epoch
            has as many samples as there are images, and images of large groups are left for a later one.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
        infinite: bool = False,
        balance: bool = False,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.round_up = round_up
        self.infinite = infinite
        self.balance = balance
        if balance and not shuffle:
            raise UserError('balance=True draws at random; give shuffle=True, or leave it out')
        self.members = _members(dataset) if balance else []
        self.epoch = 0
        self._start = 0

    def _order(self, epoch: int) -> np.ndarray:
        if self.members:
            return self._balanced(epoch * self.size, (epoch + 1) * self.size)
        if not self.shuffle:
            return np.arange(self.size)
        return self._permutation(self.size, epoch)

    def _permutation(self, size: int, *stream: int) -> np.ndarray:
        # The spawn key keeps this stream apart from the samples' own: NumPy seeds [s, e] and [s, e, 0] alike.
        seed = np.random.SeedSequence([self.seed, *stream], spawn_key=(0,))
        return np.random.default_rng(seed).permutation(size)

    def _balanced(self, start: int, end: int) -> np.ndarray:
        """Samples from `start` to `end` of a stream of turns, in each of which every group gives one image."""
        groups = len(self.members)
        turns = range(start // groups, -(-end // groups))
        stream = [group for turn in turns for group in self._turn(turn)]
        return np.array(stream[start - turns.start * groups : end - turns.start * groups])

    def _turn(self, turn: int) -> Iterator[int]:
        for group in self._permutation(len(self.members), turn, 0):
            members = self.members[group]
            # A group begins anew, in another order, when all of its images have had their turn.
            past, position = divmod(turn, len(members))
            yield members[self._permutation(len(members), past, 1, int(group))[position]]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self._endless() if self.infinite else self._one_epoch()

    def _one_epoch(self) -> Iterator[tuple[int, int]]:
        order = self._order(self.epoch)
        if self.round_up:
            order = np.resize(order, -(-self.size // self.world_size) * self.world_size)
        for index in order[self.rank :: self.world_size]:
            yield self.epoch, int(index)

    def _endless(self) -> Iterator[tuple[int, int]]:
        first, position = divmod(self.rank + self._start * self.world_size, self.size)
        for epoch in itertools.count(first):
            order = self._order(epoch)
            while position < self.size:
                yield epoch, int(order[position])
                position += self.world_size
            position -= self.size

    def __len__(self) -> int:
        """Samples of this process in one epoch (of an endless stream: in the length of one epoch, rounded up)."""
        if self.round_up or self.infinite:
            return -(-self.size // self.world_size)
        return len(range(self.rank, self.size, self.world_size))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields; an endless stream counts its epochs itself."""
        self.epoch = epoch

    def skip(self, num_samples: int) -> None:
        """Let every following iteration of an endless stream begin after its first `num_samples` samples.

        The number counts samples of this process from the start of the stream, not from the current position:
        MMEngine calls this once on resuming, with the iterations done times the batch size.

        Raises:
            UserError: The sampler ends after an epoch, so it has no stream to continue.
        """
        if not self.infinite:
            raise UserError(
                'infinite=False: a run counted in iterations can only be resumed on an endless sampler; '
                'set train_dataloader.sampler.infinite=True or train_cfg.type=StepBasedTrainLoop'
            )
        self._start = num_samples
