"""The street graph as small JSON, for the phones of simulated riders.

``lat`` and ``lon`` are integers of 1e-6 degrees (0.11 m), each the difference from the one before;
``degree`` is the number of edges that leave each node, ``head`` where they end, ``length_dm`` and
``time_cs`` their decimetres and hundredths of a second; ``name`` (index into ``names``, -1 for
none) is there only if the graph has names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from geo.roads import RoadGraph

_VERSION = 1
_UNITS_PER_DEGREE = 1e6


def encode(graph: RoadGraph) -> dict[str, object]:
    """The graph as a dict that any JSON library writes."""
    encoded: dict[str, object] = {
        "version": _VERSION,
        "lat": _deltas(graph.lat),
        "lon": _deltas(graph.lon),
        "degree": np.diff(graph.indptr).tolist(),
        "head": graph.head.tolist(),
        "length_dm": np.rint(graph.length_m.astype(np.float64) * 10.0).astype(np.int64).tolist(),
        # Rounded up to 1: an edge that takes no time is no edge to a shortest path algorithm.
        "time_cs": np.maximum(1, np.rint(graph.seconds.astype(np.float64) * 100.0))
        .astype(np.int64)
        .tolist(),
    }
    if graph.name is not None:
        encoded["name"] = graph.name.tolist()
        encoded["names"] = list(graph.names)
    return encoded


def decode(
    data: Mapping[str, object],
) -> tuple[dict[str, NDArray[np.generic]], tuple[str, ...]]:
    """The arrays of ``RoadGraph`` by their names, and ``names``.

    Raises ValueError for another version, a missing field, or a list that is not of integers.
    """
    if data.get("version") != _VERSION:
        raise ValueError(f"road graph JSON is of version {data.get('version')!r}, not {_VERSION}")
    degree = _integers(data, "degree")
    arrays: dict[str, NDArray[np.generic]] = {
        "lat": np.cumsum(_integers(data, "lat")) / _UNITS_PER_DEGREE,
        "lon": np.cumsum(_integers(data, "lon")) / _UNITS_PER_DEGREE,
        "indptr": np.concatenate([[0], np.cumsum(degree)]),
        "head": _integers(data, "head"),
        "length_m": _integers(data, "length_dm") / 10.0,
        "seconds": _integers(data, "time_cs") / 100.0,
    }
    names: tuple[str, ...] = ()
    if "name" in data:
        arrays["name"] = _integers(data, "name")
        listed = data.get("names")
        if not isinstance(listed, list | tuple):
            raise ValueError("road graph JSON: names must be a list")
        names = tuple(str(name) for name in listed)
    return arrays, names


def _deltas(degrees: NDArray[np.float64]) -> list[int]:
    units = np.rint(degrees * _UNITS_PER_DEGREE).astype(np.int64)
    deltas: list[int] = np.diff(units, prepend=0).tolist()
    return deltas


def _integers(data: Mapping[str, object], field: str) -> NDArray[np.int64]:
    values = data.get(field)
    if not isinstance(values, list | tuple):
        raise ValueError(f"road graph JSON: {field} must be a list")
    array = np.asarray(values) if values else np.empty(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind != "i":
        raise ValueError(f"road graph JSON: {field} must hold integers only")
    return array.astype(np.int64)
