"""Travel times of a large city without a matrix of all places.

A rider only ever goes to a store, and from a store over drop-offs of that store. For 2,000 orders
and 5,000 riders at 30 stores that is 340,000 numbers instead of 49 million.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dispatch.travel import FloatArray

IntArray = NDArray[np.intp]

Between = Callable[[IntArray, IntArray], NDArray[np.floating]]
"""Seconds from each place to each place of two index arrays that broadcast."""

NO_STORE = -1


@dataclass(frozen=True, slots=True, eq=False)
class TravelBlocks:
    """Seconds from every place to every store, and between the places of one store.

    store_of: shape (places,): the store that a place belongs to, its own for the store itself, the
        one that sells the order for a drop-off, ``NO_STORE`` for a rider's position.
    store_place: shape (stores,): the place of each store.
    to_store_s: shape (places, stores).
    block_start: shape (stores + 1,), local_of: shape (places,): seconds between places ``a`` and
        ``b`` of store ``k`` are
        ``block_s[block_start[k] + local_of[a] * width[k] + local_of[b]]``; local_of is 0 for the
        store itself.
    width: shape (stores,): places of each store. block_s: flat, row by row, store after store.

    Made by `gather`. It answers as `dispatch.travel.TravelTimes` does, except between doors that no
    trip joins: from one store's drop-off, or from a rider, to a drop-off of another store the way
    leads over that store.
    """

    store_of: IntArray
    store_place: IntArray
    to_store_s: FloatArray
    block_start: IntArray
    local_of: IntArray
    width: IntArray
    block_s: FloatArray

    @classmethod
    def gather(
        cls, store_of: ArrayLike, store_place: ArrayLike, between: Between
    ) -> "TravelBlocks":
        """Ask ``between`` for what trips can need; what is not finite or negative is no way.

        Raises ValueError if a store's place does not belong to it, or a place to no known store.
        """
        owner = np.asarray(store_of, dtype=np.intp)
        stores = np.asarray(store_place, dtype=np.intp)
        if owner.ndim != 1 or stores.ndim != 1:
            raise ValueError("store_of and store_place must be flat arrays")
        if owner.size and not (owner.min() >= NO_STORE and owner.max() < stores.size):
            raise ValueError(f"store_of names a store outside -1..{stores.size - 1}")
        if stores.size and not (stores.min() >= 0 and stores.max() < owner.size):
            raise ValueError("store_place names a place that does not exist")
        if not np.array_equal(owner[stores], np.arange(stores.size)):
            raise ValueError("the place of a store must belong to that store")
        to_store_s = _seconds(between, np.arange(owner.size)[:, None], stores[None, :])
        local_of = np.zeros(owner.size, dtype=np.intp)
        block_start = np.zeros(stores.size + 1, dtype=np.intp)
        width = np.zeros(stores.size, dtype=np.intp)
        blocks: list[FloatArray] = []
        for store, place in enumerate(stores.tolist()):
            members = np.flatnonzero(owner == store)
            members = np.concatenate([[place], members[members != place]])
            local_of[members] = np.arange(members.size)
            block = _seconds(between, members[:, None], members[None, :])
            np.fill_diagonal(block, 0.0)
            blocks.append(block.ravel())
            width[store] = members.size
            block_start[store + 1] = block_start[store] + block.size
        flat = np.concatenate(blocks) if blocks else np.empty(0)
        return cls(owner, stores, to_store_s, block_start, local_of, width, flat)

    @property
    def places(self) -> int:
        """How many places are known; valid places are 0 .. places - 1."""
        return int(self.store_of.size)

    def seconds_between(self, from_places: ArrayLike, to_places: ArrayLike) -> FloatArray:
        """Travel seconds for each pair of the two broadcast index arrays; inf where no way.

        Raises ValueError for a journey that ends where only a rider is.
        """
        start, end = np.broadcast_arrays(
            np.asarray(from_places, dtype=np.intp), np.asarray(to_places, dtype=np.intp)
        )
        store = self.store_of[end]
        known = (store != NO_STORE) | (start == end)
        if not known.all():
            raise ValueError("no trip ends where only a rider is: such a way is not known")
        if not self.store_place.size:
            return np.zeros(start.shape)
        inside = self.store_of[start] == store
        store = np.maximum(store, 0)
        width = self.width[store]
        local = np.where(inside, self.local_of[start], 0)
        at = self.block_start[store] + local * width + self.local_of[end]
        over_s = np.where(inside, 0.0, self.to_store_s[start, store])
        return np.where(start == end, 0.0, over_s + self.block_s[at])

    def metres_between(self, from_places: ArrayLike, to_places: ArrayLike) -> None:
        """None: distances are not kept."""
        return None


def _seconds(between: Between, start: IntArray, end: IntArray) -> FloatArray:
    found = np.array(between(start, end), dtype=np.float64)
    found[~np.isfinite(found) | (found < 0)] = np.inf
    return found
