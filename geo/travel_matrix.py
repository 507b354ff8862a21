"""Mean seconds by road between H3 cells, and the paces that follow: what ``geo.travel`` stores."""

import numpy as np
from numpy.typing import NDArray

from geo.cells import centre
from geo.distances import distances_m
from geo.roads import RoadGraph

_CHUNK_BYTES = 32 * 2**20  # of distances from several cells at once; more is no faster


def central_nodes(
    roads: RoadGraph, cells: NDArray[np.int64], cell_of_node: NDArray[np.intp]
) -> NDArray[np.intp]:
    """For each cell its node nearest to its centre: [k]. Every cell must have a node.

    ``cell_of_node``: the position in ``cells`` of each node's cell, int[n].
    """
    centres = np.array([centre(cell) for cell in cells.tolist()])[cell_of_node]
    off_m = distances_m(roads.lat, roads.lon, centres[:, 0], centres[:, 1])
    order = np.lexsort((off_m, cell_of_node))
    return order[np.searchsorted(cell_of_node[order], np.arange(len(cells)))]


def mean_seconds(
    roads: RoadGraph,
    cells: NDArray[np.int64],
    cell_of_node: NDArray[np.intp],
    longest_s: float,
) -> NDArray[np.float32]:
    """Mean seconds from cell to cell, float32[k, k]; inf where ``longest_s`` is passed.

    ``cell_of_node``: the position in ``cells`` of each node's cell. Each cell is searched from its
    node nearest to its centre, forwards and backwards. The mean over all pairs of nodes of cells A
    and B is taken as (mean from A's node to B's nodes) + (mean from A's nodes to B's node) - (A's
    node to B's node), which is exact if what a node adds to a trip does not depend on the trip.
    Against the times between the chosen nodes alone this took the 95th percentile of the error of
    ``TravelTimes.between`` from 20 to 15 % in Porto Alegre.
    """
    # Here and not above: see geo.roads.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    k = len(cells)
    by_cell = np.argsort(cell_of_node, kind="stable")
    starts = np.searchsorted(cell_of_node[by_cell], np.arange(k))
    sizes = np.bincount(cell_of_node)
    chosen = central_nodes(roads, cells, cell_of_node)
    chunk = max(1, _CHUNK_BYTES // (8 * roads.node_count))
    backwards = csr_array(roads.weights.T)
    total = np.empty((k, k), dtype=np.float32)
    for low in range(0, k, chunk):
        sources = chosen[low : low + chunk]
        out_s = dijkstra(roads.weights, indices=sources, limit=longest_s)
        mean_out = np.add.reduceat(out_s[:, by_cell], starts, axis=1) / sizes
        direct = out_s[:, chosen]
        # Where there is no way both are inf: stay inf, not "inf - inf".
        total[low : low + chunk] = mean_out - np.where(np.isfinite(direct), direct, 0.0)
    for low in range(0, k, chunk):
        in_s = dijkstra(backwards, indices=chosen[low : low + chunk], limit=longest_s)
        total[:, low : low + chunk] += (np.add.reduceat(in_s[:, by_cell], starts, axis=1) / sizes).T
    return np.maximum(total, 0.0)


def median_pace(
    seconds: NDArray[np.float32],
    apart_m: NDArray[np.float64],
    pairs: NDArray[np.bool_],
    otherwise: float,
) -> float:
    """Median seconds a metre over the chosen pairs of cells; ``otherwise`` if there are none."""
    if not pairs.any():
        return otherwise
    return max(float(np.median(seconds[pairs] / apart_m[pairs])), 1e-3)


def best_pace(roads: RoadGraph, otherwise: float) -> float:
    """Seconds a metre on the fastest street, taken over pieces long enough to tell."""
    long_enough = roads.length_m > 1.0
    if not long_enough.any():
        return otherwise
    return float((roads.seconds[long_enough] / roads.length_m[long_enough]).min())
