"""Travel times between numbered places, as arrays.

A *place* is a small integer that a snapshot gives to every store, drop-off and rider position.
Many places may share one row of the matrix (for instance all points of one H3 cell); the
optional ``offset_s`` then says how many seconds lie between a place and the point which its
row stands for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TravelTimes:
    """Seconds (and, if known, metres) from any place to any place.

    seconds: shape (k, k), row = from, column = to. Not a number, infinite, negative, or, in an
        integer matrix, the greatest value of its type: there is no way.
    row_of: shape (places,), int32: the row of each place; -1 when the place lies off the map.
    offset_s: shape (places,): seconds between a place and the point of its row, added once for
        each end of a journey between two different places.
    metres: shape (k, k), same rows as ``seconds``.

    Raises ValueError when shapes disagree or a row does not exist.
    """

    seconds: NDArray[np.generic]
    row_of: NDArray[np.int32]
    offset_s: NDArray[np.generic] | None = None
    metres: NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        rows = self.seconds.shape[0] if self.seconds.ndim == 2 else -1
        if self.seconds.shape != (rows, rows):
            raise ValueError(f"travel seconds must be a square matrix, not {self.seconds.shape}")
        if self.row_of.ndim != 1 or not np.issubdtype(self.row_of.dtype, np.integer):
            raise ValueError("row_of must be a flat array of integers")
        if self.row_of.size and not (self.row_of.min() >= -1 and self.row_of.max() < rows):
            raise ValueError(f"row_of names a row outside -1..{rows - 1}")
        if self.offset_s is not None and self.offset_s.shape != self.row_of.shape:
            raise ValueError("offset_s must have one entry for each place")
        if self.metres is not None and self.metres.shape != self.seconds.shape:
            raise ValueError("metres must have the shape of seconds")

    @property
    def places(self) -> int:
        """How many places are known; valid places are 0 .. places - 1."""
        return int(self.row_of.size)

    def seconds_between(self, from_places: ArrayLike, to_places: ArrayLike) -> FloatArray:
        """Travel seconds for each pair of the two broadcast index arrays; inf where no way."""
        start, end, result = self._gather(self.seconds, from_places, to_places)
        if self.offset_s is not None:
            offset_s = self.offset_s.astype(np.float64)
            result = result + offset_s[start] + offset_s[end]
        return np.where(start == end, 0.0, result)

    def metres_between(self, from_places: ArrayLike, to_places: ArrayLike) -> FloatArray | None:
        """Metres for each pair, inf where no way; None when distances were not handed in."""
        if self.metres is None:
            return None
        start, end, result = self._gather(self.metres, from_places, to_places)
        return np.where(start == end, 0.0, result)

    def _gather(
        self, matrix: NDArray[np.generic], from_places: ArrayLike, to_places: ArrayLike
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
        start, end = np.broadcast_arrays(
            np.asarray(from_places, dtype=np.intp), np.asarray(to_places, dtype=np.intp)
        )
        rows, columns = self.row_of[start], self.row_of[end]
        if not matrix.size:
            return start, end, np.full(start.shape, np.inf)
        raw = matrix[rows, columns]
        values = np.asarray(raw, dtype=np.float64)
        no_way = ~np.isfinite(values) | (values < 0) | (rows < 0) | (columns < 0)
        if np.issubdtype(raw.dtype, np.integer):
            no_way |= raw == np.iinfo(raw.dtype).max
        return start, end, np.where(no_way, np.inf, values)
