"""Abundance: where idle riders had better wait.

A rider who stands at a store saves the next order there the way to it. The j-th rider near a
store is needed with probability P(N >= j), N being the orders expected there (`dispatch.forecast`),
so staying away costs that share of the way, and moving costs all of it at the price of empty
riding::

    value(stay) = P(N >= j) (worth - way)        value(move) = P(N >= j) worth - price way

Moving pays when P(N >= j) > price. The values of a store's places fall with j, so the best choice
for all idle riders together is a transport problem, solved exactly by min-cost flow. (The same
marginal reasoning as for ambulances: M. S. Daskin, *A Maximum Expected Covering Location Model*,
Transportation Science 17, 1983.) What comes out are proposals; nobody has to follow one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ortools.graph.python import min_cost_flow

from dispatch.travel import FloatArray

# Costs become integers: a hundredth of a second.
SCALE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PositioningParameters:
    """What a way is worth, and when a proposal is worth making."""

    # Seconds of delay that a rider at hand is worth against one who is fetched from far away.
    worth_s: float = 600.0
    # What a second of empty riding costs: half a second of a customer's delay.
    price: float = 0.5
    # Neither for a step round the corner nor across the city.
    least_way_s: float = 90.0
    most_way_s: float = 900.0
    # Expected seconds saved that are worth a rider's attention.
    least_gain_s: float = 30.0
    # Each move that a rider was proposed lately makes the next one dearer, so that it is not the
    # same rider again and again.
    again_s: float = 60.0
    # Nearest stores that a rider may be sent to.
    nearest: int = 8
    # More riders than this wait at no store.
    most_a_store: int = 12

    def __post_init__(self) -> None:
        if not 0 < self.price < 1:
            raise ValueError("price lies between 0 and 1: dearer moves never pay")
        if not 0 <= self.least_way_s <= self.most_way_s <= self.worth_s / self.price:
            raise ValueError("least_way_s <= most_way_s <= worth_s / price must hold")
        if min(self.least_gain_s, self.again_s) < 0 or min(self.nearest, self.most_a_store) < 1:
            raise ValueError("positioning parameters must not be negative")


DEFAULT_PARAMETERS = PositioningParameters()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """A store. chances: P(N >= 1), P(N >= 2), … of its expected orders, falling."""

    store_id: str
    chances: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A rider without work. moves: proposals of the last hours."""

    rider_id: str
    moves: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Wait at this store. way_s: how far it is. chance: of being needed there. gain_s: expected
    seconds that customers are spared, less the price of the way."""

    rider_id: str
    store_id: str
    way_s: float
    chance: float
    gain_s: float


def propose(
    riders: Sequence[Idle],
    targets: Sequence[Target],
    way_s: FloatArray,
    parameters: PositioningParameters = DEFAULT_PARAMETERS,
) -> tuple[Proposal, ...]:
    """Moves that are worth their way, by rider id; riders who had better stay are left out.

    way_s: shape (riders, targets), travel seconds, inf where there is no way.
    Equal choices go to the rider who was moved less, then to the smaller id.
    Raises ValueError when the shape disagrees.
    """
    if way_s.shape != (len(riders), len(targets)):
        raise ValueError("way_s is (riders, targets)")
    if not riders or not targets:
        return ()
    order = sorted(range(len(riders)), key=lambda row: riders[row].rider_id)
    riders, way_s = [riders[row] for row in order], way_s[order]
    chances = np.array(
        [
            np.pad(target.chances[: parameters.most_a_store], (0, parameters.most_a_store))[
                : parameters.most_a_store
            ]
            for target in targets
        ]
    )
    found = []
    for row, column, place in _flow(riders, targets, chances, way_s, parameters):
        chance, way = float(chances[column, place]), float(way_s[row, column])
        gain_s = (chance - parameters.price) * way - parameters.again_s * riders[row].moves
        within = parameters.least_way_s <= way <= parameters.most_way_s
        if within and gain_s >= parameters.least_gain_s:
            found.append(
                Proposal(
                    rider_id=riders[row].rider_id, store_id=targets[column].store_id,
                    way_s=way, chance=chance, gain_s=gain_s,
                )
            )  # fmt: skip
    return tuple(found)


def _flow(
    riders: Sequence[Idle],
    targets: Sequence[Target],
    chances: FloatArray,
    way_s: FloatArray,
    parameters: PositioningParameters,
) -> list[tuple[int, int, int]]:
    """(rider row, target column, place there) of the best choice for all riders together."""
    near = np.argsort(np.where(np.isfinite(way_s), way_s, np.inf), axis=1, kind="stable")
    rows = np.repeat(np.arange(len(riders)), min(parameters.nearest, len(targets)))
    columns = near[:, : parameters.nearest].ravel()
    ways = way_s[rows, columns]
    open_ = np.isfinite(ways) & (ways <= parameters.most_way_s)
    rows, columns, ways = rows[open_], columns[open_], ways[open_]
    places = np.arange(parameters.most_a_store)
    chance = chances[columns]  # (arcs, places)
    moved = np.array([rider.moves for rider in riders], dtype=np.float64)[rows]
    stay = chance * (parameters.worth_s - ways)[:, None]
    move = (
        chance * parameters.worth_s
        - (parameters.price * ways + parameters.again_s * moved)[:, None]
    )
    value = np.where(ways[:, None] < parameters.least_way_s, stay, np.maximum(stay, move))
    cost = -np.rint(np.maximum(0.0, value) * SCALE).astype(np.int64)
    solver, sink = min_cost_flow.SimpleMinCostFlow(), len(riders) + len(targets) * places.size
    arc_row = np.repeat(rows, places.size)
    arc_slot = (columns[:, None] * places.size + places).ravel()
    arcs = solver.add_arcs_with_capacity_and_unit_cost(
        arc_row.astype(np.int32), (len(riders) + arc_slot).astype(np.int32),
        np.ones(arc_row.size, dtype=np.int64), cost.ravel(),
    )  # fmt: skip
    every_slot = np.arange(len(riders), sink, dtype=np.int32)
    solver.add_arcs_with_capacity_and_unit_cost(
        every_slot, np.full(every_slot.size, sink, dtype=np.int32),
        np.ones(every_slot.size, dtype=np.int64), np.zeros(every_slot.size, dtype=np.int64),
    )  # fmt: skip
    # A rider for whom there is nothing near goes nowhere.
    everyone = np.arange(len(riders), dtype=np.int32)
    solver.add_arcs_with_capacity_and_unit_cost(
        everyone, np.full(everyone.size, sink, dtype=np.int32),
        np.ones(everyone.size, dtype=np.int64), np.zeros(everyone.size, dtype=np.int64),
    )  # fmt: skip
    nodes = np.append(everyone, np.int32(sink))
    supplies = np.append(np.ones(everyone.size, dtype=np.int64), -everyone.size)
    solver.set_nodes_supplies(nodes, supplies)
    if solver.solve() != solver.OPTIMAL:
        return []
    used = np.flatnonzero(solver.flows(arcs))
    return [
        (int(arc_row[arc]), int(arc_slot[arc]) // places.size, int(arc_slot[arc]) % places.size)
        for arc in used.tolist()
    ]
