"""The street graph as lines for a map: pieces of one street joined into one line."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import shapely

if TYPE_CHECKING:
    from geo.roads import RoadGraph

_DECIMALS = 6  # 0.11 m


def street_lines(graph: RoadGraph) -> dict[str, object]:
    """A GeoJSON FeatureCollection of LineStrings that cover every street once.

    Properties: ``name`` (None if unknown), ``speed_kmh`` (whole, as driven) and ``oneway``; a
    one-way line runs in the direction of travel. Consecutive pieces with the same properties are
    one line (``shapely.line_merge``). Lines stand in a fixed order: slowest streets first, so that
    a map which draws them in order has the main roads on top.
    """
    tail, head = graph.tail, graph.head
    # Both directions of a street are one line; (low, high) names the pair.
    low, high = np.minimum(tail, head), np.maximum(tail, head)
    pairs = low.astype(np.int64) * graph.node_count + high
    _, first, count = np.unique(pairs, return_index=True, return_counts=True)
    speed_kmh = np.rint(graph.length_m[first] / graph.seconds[first] * 3.6).astype(np.int64)
    labels = np.full(graph.edge_count, -1) if graph.name is None else graph.name
    oneway = count == 1
    places = np.stack([graph.lon, graph.lat], axis=-1)
    ends = np.stack([places[tail[first]], places[head[first]]], axis=1)  # [piece, end, lon and lat]
    lines = np.asarray(shapely.linestrings(ends))
    groups: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    keys = zip(speed_kmh.tolist(), labels[first].tolist(), oneway.tolist(), strict=True)
    for piece, key in enumerate(keys):
        groups[key].append(piece)
    features: list[dict[str, object]] = []
    for (speed, label, one_way), pieces in sorted(groups.items()):
        merged = shapely.line_merge(shapely.multilinestrings(lines[pieces]), directed=one_way)
        for line in shapely.get_parts(merged).tolist():
            corners = np.round(shapely.get_coordinates(line), _DECIMALS).tolist()
            features.append(
                {
                    "type": "Feature",
                    "geometry": {"type": "LineString", "coordinates": corners},
                    "properties": {
                        "name": graph.names[label] if label >= 0 else None,
                        "speed_kmh": speed,
                        "oneway": one_way,
                    },
                }
            )
    return {"type": "FeatureCollection", "features": features}
