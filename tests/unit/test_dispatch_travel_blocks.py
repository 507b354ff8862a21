"""Blocks answer what the whole matrix answers, and refuse what no trip asks."""

import numpy as np
import pytest

from dispatch.travel import TravelTimes
from dispatch.travel_blocks import NO_STORE, TravelBlocks

# Places: two riders, store 0, two of its drop-offs, store 1, one drop-off.
STORE_OF = np.array([NO_STORE, NO_STORE, 0, 0, 0, 1, 1])
STORE_PLACE = np.array([2, 5])


def matrix() -> TravelTimes:
    """Seconds that differ in both directions, with one way that does not exist."""
    seconds = np.random.default_rng(1).uniform(10, 900, (7, 7))
    seconds[3, 4] = np.inf
    return TravelTimes(seconds=seconds, row_of=np.arange(7, dtype=np.int32))


def test_blocks_answer_as_the_matrix_does() -> None:
    """Every leg that a trip can have: to any store, and among one store's places."""
    whole = matrix()
    blocks = TravelBlocks.gather(STORE_OF, STORE_PLACE, whole.seconds_between)
    every = np.arange(7)[:, None]
    assert np.array_equal(
        blocks.seconds_between(every, STORE_PLACE), whole.seconds_between(every, STORE_PLACE)
    )
    for members in ([2, 3, 4], [5, 6]):
        pair = np.array(members)[:, None], np.array(members)[None, :]
        assert np.array_equal(blocks.seconds_between(*pair), whole.seconds_between(*pair))
    assert blocks.places == 7
    assert blocks.seconds_between(0, 0) == 0
    assert np.isinf(blocks.seconds_between(3, 4))
    assert blocks.metres_between(0, 2) is None


def test_a_door_that_no_trip_joins_is_reached_over_its_store() -> None:
    """A rider, or a drop-off of another store, has to go by the store that sells the order."""
    whole = matrix()
    blocks = TravelBlocks.gather(STORE_OF, STORE_PLACE, whole.seconds_between)
    for start, store, end in ((0, 2, 3), (6, 2, 4), (3, 5, 6), (2, 5, 6)):
        over = whole.seconds_between(start, store) + whole.seconds_between(store, end)
        assert blocks.seconds_between(start, end) == over


@pytest.mark.parametrize("start", [0, 2, 6])
def test_the_way_to_a_rider_is_refused(start: int) -> None:
    """No trip ends there: a number made up would go unnoticed."""
    blocks = TravelBlocks.gather(STORE_OF, STORE_PLACE, matrix().seconds_between)
    with pytest.raises(ValueError, match="only a rider"):
        blocks.seconds_between(start, 1)


@pytest.mark.parametrize(
    ("store_of", "store_place"),
    [
        ([0, 2], [0]),
        ([0, -2], [0]),
        ([0, 1], [1, 0]),
        ([0, 0], [2]),
        ([[0]], [0]),
    ],
)
def test_places_that_do_not_fit_together_are_refused(
    store_of: list[int], store_place: list[int]
) -> None:
    """Unknown stores, stores that stand on each other's places, arrays of another shape."""
    with pytest.raises(ValueError, match="store"):
        TravelBlocks.gather(store_of, store_place, matrix().seconds_between)


def test_no_stores_and_no_places() -> None:
    """A city before its first order."""
    empty = TravelBlocks.gather([], [], matrix().seconds_between)
    assert empty.places == 0
    assert empty.seconds_between([], []).size == 0
