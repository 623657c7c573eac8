import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgfnuc.evaluation.functional.matching import best_matching

from .label_maps import matchings

EDGES = st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 5)), st.integers(1, 20), min_size=1, max_size=12)


@given(EDGES)
@settings(max_examples=200, deadline=None)
def test_largest_sum_of_all_matchings(edges):
    rows, columns = np.array(sorted(edges)).T
    weights = np.array([edges[pair] for pair in sorted(edges)], float)
    chosen = best_matching(rows, columns, weights)
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
    assert (np.diff(chosen) > 0).all()
    choices = [(row, [column for r, column in edges if r == row]) for row in set(rows.tolist())]
    assert weights[chosen].sum() == max(sum(edges[pair] for pair in pairs) for pairs in matchings(choices))


def test_no_pairs():
    nothing = np.zeros(0, np.int64)
    assert best_matching(nothing, nothing, np.zeros(0)).tolist() == []


def test_rows_and_columns_far_apart():
    chosen = best_matching(np.array([5, 5, 10_000]), np.array([0, 9000, 9000]), np.array([0.5, 0.6, 0.2]))
    assert chosen.tolist() == [0, 2]
