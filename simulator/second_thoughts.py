"""What some customers ask for after they have ordered: another door, another time.

Who does is decided by the number of the wish and by nothing random, so the demand of a seed stays
what it is.
"""

from __future__ import annotations

from typing import Final

from simulator.api import Json, Session
from simulator.demand import DemandedOrder
from simulator.world import World

# One in so many goes on to a neighbour's; degrees, about 45 m.
_NEIGHBOURS: Final = 12
_NEXT_DOOR: Final = 0.0004
# Of those who will cancel, one in so many first tries to have it later.
_LATER: Final = 2


async def second_thoughts(
    world: World, session: Session, wish: DemandedOrder, store_id: str, order_id: str
) -> None:
    """Ask once, and take no for an answer: picker and rider may have been faster."""
    path = f"/v1/orders/{order_id}"
    if wish.n % _NEIGHBOURS == 5:
        door: Json = {
            "lat": wish.lat + _NEXT_DOOR, "lon": wish.lon, "address": f"Neighbour of {wish.n}",
            "note": "at the neighbours'", "accept_promise": True,
        }  # fmt: skip
        await _ask(world, session, "address", f"{path}/address", door)
    if wish.cancel_after_s is not None and wish.n % _LATER == 0:
        query = f"/v1/stores/{store_id}/slots?lat={wish.lat}&lon={wish.lon}"
        listed = await session.call("GET", query)
        items = listed.data["items"] if listed.ok else []
        free = [slot["from"] for slot in items if slot["remaining"]]
        if free:
            await _ask(world, session, "slot", f"{path}/reschedule", {"slot": free[0]})


async def _ask(world: World, session: Session, what: str, path: str, body: Json) -> None:
    reply = await session.call("POST", path, body)
    if reply.ok:
        world.tally.promise_changed(reply.data)
    world.tally.changes_asked[f"{what}: {'ok' if reply.ok else reply.code}"] += 1
