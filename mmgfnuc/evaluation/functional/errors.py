"""What became of each nucleus: found, or a false negative or false positive, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .contingency import Contingency, Indices
from .instance import merged_nuclei, split_nuclei

TRUE_STATES = ('matched', 'merged', 'split', 'false negative')
PREDICTED_STATES = ('matched', 'merged', 'split', 'false positive')


@dataclass(frozen=True)
class NucleusStates:
    """One of TRUE_STATES for each true nucleus, one of PREDICTED_STATES for each predicted one.

    Shape:
        - truth: (T,), in the order of table.truth_ids; predicted: (P,), in the order of table.predicted_ids.
    """

    truth: npt.NDArray[np.str_]
    predicted: npt.NDArray[np.str_]

    @property
    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many true, and how many predicted, nuclei are in each state."""
        return (
            {state: int(np.count_nonzero(self.truth == state)) for state in TRUE_STATES},
            {state: int(np.count_nonzero(self.predicted == state)) for state in PREDICTED_STATES},
        )


def nucleus_states(table: Contingency) -> NucleusStates:
    """Say of each nucleus what became of it: the first of these that holds.

    - `matched`: its IoU with a nucleus of the other map is above 0.5;
    - `merged`: predicted, it merges true nuclei (`merged_nuclei`); true, more than half of it lies in one that does;
    - `split`: true, it is split (`split_nuclei`); predicted, more than half of it lies in one that is;
    - `false negative` (true) or `false positive` (predicted): none of these.

    The matched are the hits of the scores at IoU 0.5; the other states say why the rest is lost or too many.
    Fewer are so than in `instance_scores`, where those merged and split count too.

    A nucleus that merges others may match the largest of them, and is matched then; the others are not, and stay
    `merged`: each merge shows on at least one true nucleus. So does each split on at least one predicted nucleus.

    Source: as `merged_nuclei`.

    Examples:
        The predicted nucleus 4 matches the true nucleus 1 (IoU 4 of 6) and swallows 2; 3 is a false negative, 5 a
        false positive.

        >>> from mmgfnuc.evaluation.functional import contingency_table
        >>> target = np.array([1, 1, 1, 1, 2, 2, 0, 3, 0, 0])
        >>> prediction = np.array([4, 4, 4, 4, 4, 4, 0, 0, 0, 5])
        >>> states = nucleus_states(contingency_table(prediction, target))
        >>> states.truth.tolist(), states.predicted.tolist()
        (['matched', 'merged', 'false negative'], ['matched', 'false positive'])
        >>> states.counts[0]
        {'matched': 1, 'merged': 1, 'split': 0, 'false negative': 1}

    """
    truth, predicted = table.truth_index, table.predicted_index
    merges, splits = merged_nuclei(table), split_nuclei(table)
    matched = table.ious > 0.5
    swallowed = merges[predicted] & (2 * table.intersections > table.truth_areas[truth])
    pieces = splits[truth] & (2 * table.intersections > table.predicted_areas[predicted])
    num_truth, num_predicted = len(table.truth_ids), len(table.predicted_ids)
    of_truth = [_mark(truth[matched], num_truth), _mark(truth[swallowed], num_truth), splits]
    of_predicted = [_mark(predicted[matched], num_predicted), merges, _mark(predicted[pieces], num_predicted)]
    return NucleusStates(_first(TRUE_STATES, of_truth), _first(PREDICTED_STATES, of_predicted))


def _first(states: Sequence[str], holds: list[npt.NDArray[np.bool_]]) -> npt.NDArray[np.str_]:
    """The first state that holds for each nucleus, or the last where none does."""
    return np.select(holds, states[:-1], states[-1])


def _mark(index: Indices, size: int) -> npt.NDArray[np.bool_]:
    return np.bincount(index, minlength=size) > 0
