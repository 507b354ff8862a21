"""Leaving out the nodes that only bend a street."""

import numpy as np
import pytest

from geo.contraction import without_bends
from geo.roads import RoadGraph


def street() -> RoadGraph:
    """0 - 1 - 2 - 3 in a line, both ways, faster eastwards; 2 - 4 a dead end; 5 -> 3 one way."""
    return RoadGraph.from_edges(
        [10.0, 10.0, 10.0, 10.0, 10.001, 9.999],
        [20.0, 20.001, 20.002, 20.003, 20.002, 20.003],
        [0, 1, 2, 1, 2, 3, 2, 4, 5],
        [1, 2, 3, 0, 1, 2, 4, 2, 3],
        [110.0] * 9,
        [1.0, 2.0, 4.0, 10.0, 20.0, 40.0, 5.0, 5.0, 6.0],
    )


def test_bends_go_and_times_add_up_each_way() -> None:
    """Nodes 1 and 3 have two neighbours: 0 to 2 becomes one edge of 3 s, and back of 30 s."""
    slim = without_bends(street(), np.zeros(6, dtype=np.bool_))
    assert slim.lon.tolist() == [20.0, 20.002, 20.002, 20.003]  # nodes 0, 2, 4 and 5
    assert slim.route(0, 1).seconds == pytest.approx(3.0)
    assert slim.route(1, 0).seconds == pytest.approx(30.0)
    assert slim.route(1, 0).length_m == pytest.approx(220.0)


def test_one_way_streets_stay_one_way() -> None:
    """From 5 over 3 to 2 there is a way of 46 s; there is none back."""
    slim = without_bends(street(), np.zeros(6, dtype=np.bool_))
    assert slim.route(3, 1).seconds == pytest.approx(46.0)
    with pytest.raises(ValueError, match="no way by road"):
        slim.route(1, 3)


def test_nodes_to_keep_are_kept() -> None:
    """A bend that is asked for stays, and splits the edge again."""
    slim = without_bends(street(), np.array([False, True, False, False, False, False]))
    assert slim.node_count == 5
    assert slim.route(0, 1).seconds == pytest.approx(1.0)
    with pytest.raises(ValueError, match="flags for 6 nodes"):
        without_bends(street(), np.zeros(3, dtype=np.bool_))
