"""The street graph of a city: arrays in compressed sparse rows, with nearest node and routes.

A node is a point of a street, an edge one direction of the straight piece between two nodes; what
may not be driven has no edge. Travel times are those of a motor scooter. Turn restrictions are not
modelled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geo import road_json
from geo.distances import LocalProjection, Point
from geo.packing import pack, pack_texts, unpack, unpack_texts
from geo.road_lines import street_lines

# scipy takes a second to load and 30 MB, and a process that only looks times up never asks it.
if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from scipy.spatial import KDTree

SHORTEST_EDGE_S = 0.01
"""No edge is faster: sums of scipy matrices drop zeros, and speed is metres over seconds."""

# Memory that remembered trees of shortest paths may take, for each graph. Stores are few and start
# most trips, so their trees are reused; 32 MiB hold 280 origins of a graph of 30,000 nodes.
_TREE_MEMORY_BYTES = 32 * 2**20

_FORMAT = "road graph"


class Bounds(NamedTuple):
    """A box in degrees, in the order of RFC 7946."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, slots=True)
class Route:
    """A way along streets: ``nodes`` from origin to destination, both included."""

    nodes: tuple[int, ...]
    length_m: float
    seconds: float


@dataclass(frozen=True, eq=False)
class RoadGraph:
    """Streets of n nodes and m directed edges; arrays are copied and made read-only.

    ``lat``, ``lon``: float64[n]. ``indptr``: int32[n + 1], so that the edges which leave node ``u``
    are ``indptr[u]`` to ``indptr[u + 1]``. ``head`` int32[m], where each edge ends, ascending for
    each node and without repeats; ``length_m``, ``seconds``: float32[m]. ``name``: int32[m] index
    into ``names``, -1 for none; or None if no street has a name.

    Raises ValueError if the arrays do not fit together. Compared by identity.
    """

    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    indptr: NDArray[np.int32]
    head: NDArray[np.int32]
    length_m: NDArray[np.float32]
    seconds: NDArray[np.float32]
    name: NDArray[np.int32] | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        dtypes = {
            "lat": np.float64, "lon": np.float64, "indptr": np.int32, "head": np.int32,
            "length_m": np.float32, "seconds": np.float32, "name": np.int32,
        }  # fmt: skip
        for field, dtype in dtypes.items():
            value = getattr(self, field)
            if value is not None:
                array = np.array(value, dtype=dtype)
                array.setflags(write=False)
                object.__setattr__(self, field, array)
        self._check()

    def _check(self) -> None:
        n, m = len(self.lat), len(self.head)
        sizes_fit = (
            self.lat.shape == self.lon.shape == (n,)
            and self.indptr.shape == (n + 1,)
            and self.head.shape == self.length_m.shape == self.seconds.shape == (m,)
            and (self.name is None or self.name.shape == (m,))
        )
        if not sizes_fit:
            raise ValueError(f"road graph: arrays of {n} nodes and {m} edges differ in size")
        if self.indptr[0] != 0 or self.indptr[-1] != m or bool((np.diff(self.indptr) < 0).any()):
            raise ValueError("road graph: indptr does not run from 0 up to the number of edges")
        if m and not (self.head.min() >= 0 and self.head.max() < n):
            raise ValueError("road graph: an edge ends at a node that does not exist")
        if bool((np.diff(self._edge_keys) <= 0).any()):
            raise ValueError("road graph: edges of a node are not ascending or repeat")
        on_globe = (np.abs(self.lat) <= 90.0) & (np.abs(self.lon) <= 180.0)
        if not on_globe.all():
            raise ValueError("road graph: a node is not on the globe")
        finite = np.isfinite(self.length_m).all() and np.isfinite(self.seconds).all()
        if not (finite and (self.length_m >= 0.0).all() and (self.seconds > 0.0).all()):
            raise ValueError("road graph: an edge has a length below 0 or takes no time")
        named = self.name if self.name is not None else np.empty(0, dtype=np.int32)
        if named.size and not (named.min() >= -1 and named.max() < len(self.names)):
            raise ValueError("road graph: an edge has a name that does not exist")

    def __getstate__(self) -> dict[str, object]:
        """Fields only: what is cached is built again in the other process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_edges(
        cls,
        lat: ArrayLike,
        lon: ArrayLike,
        tail: ArrayLike,
        head: ArrayLike,
        length_m: ArrayLike,
        seconds: ArrayLike,
        name: ArrayLike | None = None,
        names: Sequence[str] = (),
    ) -> Self:
        """A graph from edges in any order: ``tail`` to ``head``, each of shape [m].

        Edges from a node to itself are dropped; of several from one node to another the quickest
        stays. Raises ValueError as the class does.
        """
        tails = np.asarray(tail, dtype=np.int64)
        heads = np.asarray(head, dtype=np.int64)
        lengths = np.asarray(length_m, dtype=np.float64)
        times = np.maximum(np.asarray(seconds, dtype=np.float64), SHORTEST_EDGE_S)
        labels = None if name is None else np.asarray(name, dtype=np.int32)
        n = np.asarray(lat).size
        if not tails.shape == heads.shape == lengths.shape == times.shape:
            raise ValueError("road graph: tail, head, length_m and seconds differ in size")
        if tails.size and not (tails.min() >= 0 and tails.max() < n):
            raise ValueError("road graph: an edge starts at a node that does not exist")
        order = np.lexsort((lengths, times, heads, tails))
        order = order[tails[order] != heads[order]]
        keys = tails[order] * n + heads[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        kept = order[first]
        indptr = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.bincount(tails[kept], minlength=n), out=indptr[1:])
        return cls(
            lat=np.asarray(lat, dtype=np.float64),
            lon=np.asarray(lon, dtype=np.float64),
            indptr=indptr.astype(np.int32),
            head=heads[kept].astype(np.int32),
            length_m=lengths[kept].astype(np.float32),
            seconds=times[kept].astype(np.float32),
            name=None if labels is None else labels[kept],
            names=tuple(names),
        )

    @property
    def node_count(self) -> int:
        """n."""
        return len(self.lat)

    @property
    def edge_count(self) -> int:
        """m, each direction of a street counted."""
        return len(self.head)

    @cached_property
    def tail(self) -> NDArray[np.int32]:
        """Where each edge starts: int32[m]."""
        return np.repeat(np.arange(self.node_count, dtype=np.int32), np.diff(self.indptr))

    @cached_property
    def bounds(self) -> Bounds:
        """The box of all nodes. Raises ValueError for a graph without nodes."""
        if not self.node_count:
            raise ValueError("a road graph without nodes has no bounds")
        return Bounds(
            float(self.lon.min()),
            float(self.lat.min()),
            float(self.lon.max()),
            float(self.lat.max()),
        )

    @cached_property
    def weights(self) -> "csr_array[np.float64]":
        """Seconds as a scipy matrix [n, n], for ``scipy.sparse.csgraph``."""
        from scipy.sparse import csr_array

        shape = (self.node_count, self.node_count)
        return csr_array((self.seconds.astype(np.float64), self.head, self.indptr), shape=shape)

    @cached_property
    def _edge_keys(self) -> NDArray[np.int64]:
        """tail * n + head of each edge, ascending."""
        return self.tail.astype(np.int64) * self.node_count + self.head

    @cached_property
    def _projection(self) -> LocalProjection:
        west, south, east, north = self.bounds
        return LocalProjection(Point((south + north) / 2.0, (west + east) / 2.0))

    @cached_property
    def _places(self) -> "KDTree":
        from scipy.spatial import KDTree

        return KDTree(self._projection.to_metres(self.lat, self.lon))

    @cached_property
    def _tree_from(self) -> Callable[[int], NDArray[np.int32]]:
        """Origin to the node before each node on its shortest path; the latest are remembered."""
        from scipy.sparse.csgraph import dijkstra

        remembered = max(4, _TREE_MEMORY_BYTES // (4 * max(1, self.node_count)))
        weights = self.weights

        @lru_cache(maxsize=remembered)
        def tree_from(origin: int) -> NDArray[np.int32]:
            _, before = dijkstra(weights, indices=np.array([origin]), return_predecessors=True)
            return np.asarray(before[0], dtype=np.int32)

        return tree_from

    def largest_strong_component(self) -> "RoadGraph":
        """The largest part in which every node reaches every other, nodes renumbered in order."""
        from scipy.sparse.csgraph import connected_components

        if not self.node_count:
            return self
        _, label = connected_components(self.weights, directed=True, connection="strong")
        keep = label == np.bincount(label).argmax()
        number = np.cumsum(keep) - 1
        stays = keep[self.tail] & keep[self.head]
        return RoadGraph.from_edges(
            lat=self.lat[keep],
            lon=self.lon[keep],
            tail=number[self.tail[stays]],
            head=number[self.head[stays]],
            length_m=self.length_m[stays],
            seconds=self.seconds[stays],
            name=None if self.name is None else self.name[stays],
            names=self.names,
        )

    def nearest_node(self, point: Point) -> int:
        """The node nearest to a point, however far. Raises ValueError for a graph without nodes."""
        return int(self.nearest_nodes(point.lat, point.lon))

    def nearest_nodes(self, lat: ArrayLike, lon: ArrayLike) -> NDArray[np.int32]:
        """The nearest node of each point; ``lat`` and ``lon`` have one shape, as has the answer.

        Raises ValueError for a graph without nodes, or a coordinate that is not finite.
        """
        _, nodes = self._places.query(self._projection.to_metres(lat, lon))
        return np.asarray(nodes, dtype=np.int32)

    def route(self, origin: int, destination: int) -> Route:
        """The quickest way between two nodes (Dijkstra's algorithm).

        The first route from an origin computes its whole tree of shortest paths (3 ms at 30,000
        nodes), further ones read it (0.1 ms). Safe to call from several threads.

        Raises ValueError for a node that does not exist or cannot be reached.
        """
        for node in (origin, destination):
            if not 0 <= node < self.node_count:
                raise ValueError(f"no node {node} in a road graph of {self.node_count}")
        before = self._tree_from(int(origin))
        nodes = [int(destination)]
        while nodes[-1] != origin:
            previous = int(before[nodes[-1]])
            if previous < 0:
                raise ValueError(f"no way by road from node {origin} to node {destination}")
            nodes.append(previous)
        nodes.reverse()
        edges = self.edges_along(nodes)
        length_m = float(self.length_m[edges].sum(dtype=np.float64))
        return Route(tuple(nodes), length_m, float(self.seconds[edges].sum(dtype=np.float64)))

    def edges_along(self, nodes: Sequence[int]) -> NDArray[np.int64]:
        """The edges between consecutive nodes: one fewer than nodes.

        Raises ValueError if two consecutive nodes have no edge.
        """
        path = np.asarray(nodes, dtype=np.int64)
        keys = path[:-1] * self.node_count + path[1:]
        edges = np.searchsorted(self._edge_keys, keys)
        found = edges < self.edge_count
        found[found] = self._edge_keys[edges[found]] == keys[found]
        if not found.all():
            at = int(np.argmin(found))
            raise ValueError(f"no street leads from node {path[at]} to node {path[at + 1]}")
        return edges

    def points_along(self, nodes: Sequence[int]) -> list[Point]:
        """The places of nodes, in order."""
        path = np.asarray(nodes, dtype=np.int64)
        pairs = zip(self.lat[path].tolist(), self.lon[path].tolist(), strict=True)
        return [Point(lat, lon) for lat, lon in pairs]

    def to_bytes(self) -> bytes:
        """The graph as a compressed ``.npz`` without pickle, about 17 bytes an edge."""
        arrays: dict[str, NDArray[np.generic]] = {
            "lat": self.lat, "lon": self.lon, "indptr": self.indptr, "head": self.head,
            "length_m": self.length_m, "seconds": self.seconds, "names": pack_texts(self.names),
        }  # fmt: skip
        if self.name is not None:
            arrays["name"] = self.name
        return pack(_FORMAT, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The graph that ``to_bytes`` wrote. Raises ValueError if ``data`` is anything else."""
        plain = ("lat", "lon", "indptr", "head", "length_m", "seconds")
        arrays = unpack(_FORMAT, data, (*plain, "names"))
        names = unpack_texts(arrays.pop("names"))
        return cls(**arrays, names=names)  # type: ignore[arg-type]  # dtypes are set by the class

    def to_geojson(self) -> dict[str, object]:
        """Streets for a map: a GeoJSON FeatureCollection, see ``geo.road_lines``."""
        return street_lines(self)

    def to_json_dict(self) -> dict[str, object]:
        """The graph as a small dict for JSON, rounded: see ``geo.road_json``."""
        return road_json.encode(self)

    @classmethod
    def from_json_dict(cls, data: Mapping[str, object]) -> Self:
        """The graph that ``to_json_dict`` wrote. Raises ValueError if ``data`` is anything else."""
        arrays, names = road_json.decode(data)
        return cls(**arrays, names=names)  # type: ignore[arg-type]  # dtypes are set by the class
