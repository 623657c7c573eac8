"""One-to-one matching of true and predicted nuclei."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .contingency import Indices


def best_matching(rows: Indices, columns: Indices, weights: npt.NDArray[np.float64]) -> Indices:
    """Choose pairs, each row and column at most once, such that the sum of their weights is largest.

    Pairs of different components of the graph do not compete. Each component is therefore solved by itself, which keeps
    the time linear in the number of nuclei: components of nuclei are small.

    Where several choices have the largest sum, it is left to SciPy's `linear_sum_assignment` which one is taken: it is
    always the same for the same pairs.

    Shape:
        - rows, columns, weights: (K,), one entry for each pair that may be chosen; weights above 0.
        - result: positions of the chosen pairs, ascending.

    Examples:
        The best pair of all, of weight 3, would leave nothing to match but itself.

        >>> best_matching(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([3.0, 2.0, 2.0]))
        array([1, 2])

    """
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    contested = np.flatnonzero(~alone)
    if not len(contested):
        return np.flatnonzero(alone)
    chosen = contested[_match_components(rows[contested], columns[contested], weights[contested])]
    return np.sort(np.concatenate((np.flatnonzero(alone), chosen)))


def _match_components(rows: Indices, columns: Indices, weights: npt.NDArray[np.float64]) -> Indices:
    components = _components(rows, columns)
    order = np.argsort(components, kind='stable')
    sizes = np.bincount(components)
    local_rows, heights = _local(rows, components)
    local_columns, widths = _local(columns, components)
    chosen = []
    for pairs, height, width in zip(np.split(order, np.cumsum(sizes)[:-1]), heights, widths, strict=True):
        matrix = np.zeros((height, width))
        position = np.full((height, width), -1)
        places = local_rows[pairs], local_columns[pairs]
        matrix[places], position[places] = weights[pairs], pairs
        chosen.append(position[linear_sum_assignment(matrix, maximize=True)])
    found = np.concatenate(chosen)
    return found[found >= 0]


def _components(rows: Indices, columns: Indices) -> Indices:
    """Number the component of each pair, without gaps."""
    num_rows = rows.max() + 1
    size = num_rows + columns.max() + 1
    graph = coo_array((np.ones(len(rows), bool), (rows, num_rows + columns)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][rows]
    return np.unique(labels, return_inverse=True)[1]


def _local(nodes: Indices, components: Indices) -> tuple[Indices, Indices]:
    """Number the nodes within their components; also the number of nodes of each component."""
    distinct, first, inverse = np.unique(nodes, return_index=True, return_inverse=True)
    owners = components[first]
    order = np.argsort(owners, kind='stable')
    sizes = np.bincount(owners)
    starts = np.cumsum(sizes) - sizes
    local = np.empty(len(distinct), np.int64)
    local[order] = np.arange(len(distinct)) - starts[owners[order]]
    return local[inverse], sizes
