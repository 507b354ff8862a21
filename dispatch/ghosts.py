"""Orders that nobody has placed yet, so that a plan leaves room for them.

The last half hour is replayed: each of its orders comes again, at the same store and drop-off,
half an hour later. A ghost never leaves this package; it weighs less than an order and may be
dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dispatch.parameters import GhostParameters
from dispatch.snapshot import Demand


@dataclass(frozen=True, slots=True)
class Ghost:
    """An order expected at ``placed_at_s``; key: stable from epoch to epoch."""

    key: str
    store_id: str
    place: int
    placed_at_s: float
    ready_at_s: float
    weight: float


def foresee(recent: Sequence[Demand], now_s: float, parameters: GhostParameters) -> list[Ghost]:
    """The demand of the coming ``window_s`` as that of the last."""
    if not parameters.enabled:
        return []
    ghosts = [
        Ghost(
            key=f"{one.order_id}+1",
            store_id=one.store_id,
            place=one.place,
            placed_at_s=one.placed_at_s + parameters.window_s,
            ready_at_s=one.ready_at_s + parameters.window_s,
            weight=parameters.weight,
        )
        for one in recent
        if now_s < one.placed_at_s + parameters.window_s <= now_s + parameters.horizon_s
    ]
    return sorted(ghosts, key=lambda ghost: ghost.key)
