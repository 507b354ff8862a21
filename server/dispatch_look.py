"""One look at a partition: read, plan, commit what is to be committed now.

What has become stale while the engine thought is left out, part by part; the rest of the plan
stands.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError

from dispatch.result import Plan, Trip
from geo.distances import Point
from kit import crash_points
from kit.db import lost
from kit.errors import IllegalTransition
from orders import batches, dispatch_controls, dispatching, offers
from orders.dispatch_snapshot import Question, ask
from orders.dispatch_world import Partition, World, of_partition, read_rows, unmanned
from orders.dispatching import Origin, commit_trip, fence
from orders.errors import LeaseLost, StaleAssignment
from orders.territory import Territory
from riders import waiting
from server import dispatch_figures
from server.decision_log import DecisionLog
from server.dispatch_figures import Figures
from server.planner import Planner
from server.policies import Policies
from server.wiring import Services

log = structlog.get_logger(__name__)

# Somebody else has the rows at this moment: a lock that was not to be had, a circle of waiters.
_CONTENTION = frozenset({"55P03", "40P01", "40001"})
_BROKEN_RULES = {"uq_trips_open": "rider_busy", "uq_assignments_active": "order_taken"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """``look_again_at_s`` (virtual) is when a held order is due, None for no such order.

    ``stale``: parts of the plan were dropped, so the next look should come soon. ``idle``: no order
    waits for a rider or a rider for an order, so that nothing runs out until something happens.
    ``unmanned``: nobody is on shift, so orders may wake us in vain.
    """

    look_again_at_s: float | None
    stale: bool
    idle: bool = False
    unmanned: bool = False


@dataclass
class Lookout:
    """What looks share: the engine, the log of decisions, and each partition's last plans."""

    services: Services
    planner: Planner
    decisions: DecisionLog
    policies: Policies
    _previous: dict[tuple[str, str], Plan] = field(default_factory=dict)
    # Looks that were begun and not ended, by partition.
    _begun: Counter[str] = field(default_factory=Counter)

    async def look(self, territory: Territory, partition: Partition, epoch: int) -> Outcome:
        """Raises LeaseLost when another dispatcher has the partition."""
        figures = Figures()
        figures.counts["looks"] = 1
        self._begun[partition.id] += 1
        fallbacks, replaced = self.planner.fallbacks, self.planner.replaced
        await self._sweep(partition, epoch, figures)
        without_riders = await unmanned(self.services.database.pool, partition)
        if without_riders is None:
            outcome = await self._read_and_decide(territory, partition, epoch, figures)
        else:
            figures.orders_unassigned = without_riders.unassigned
            outcome = Outcome(None, stale=False, idle=not without_riders.orders, unmanned=True)
        figures.counts["fallbacks"] = self.planner.fallbacks - fallbacks
        figures.counts["solvers_replaced"] = self.planner.replaced - replaced
        figures.counts["failed_looks"] = self._begun.pop(partition.id) - 1
        await dispatch_figures.add(self.services.database, partition, epoch, figures)
        return outcome

    async def _read_and_decide(
        self, territory: Territory, partition: Partition, epoch: int, figures: Figures
    ) -> Outcome:
        world = await self.read(territory, partition)
        if world.orders and world.riders:
            return await self._decide(territory, partition, epoch, world, figures)
        figures.orders_unassigned = len(world.orders)
        return Outcome(None, stale=False, idle=not (world.orders or world.trip_orders))

    def forget(self, partition_id: str) -> None:
        """Another dispatcher plans for the partition now."""
        self._begun.pop(partition_id, None)
        for key in [key for key in self._previous if key[0] == partition_id]:
            del self._previous[key]

    async def read(self, territory: Territory, partition: Partition) -> World:
        """The partition as it is; writes nothing."""
        services = self.services
        city_id = partition.city_id
        async with services.database.begin() as conn:
            rows = await read_rows(conn, partition)
            controls = await dispatch_controls.read_controls(conn, city_id)
            queues = await waiting.read(conn, city_id)
        fixes = await services.locations.read(city_id, list(rows.riders))
        applied = dispatch_controls.apply(
            controls,
            territory.zones,
            rows.orders,
            of_partition(rows.riders, fixes, partition, territory),
        )
        return World(
            city_id=city_id,
            orders=applied.orders,
            riders=applied.riders,
            fixes=fixes,
            trip_orders=rows.trip_orders,
            demand=rows.demand,
            queues=queues,
            pins=applied.pins,
            excluded=applied.excluded,
        )

    async def question(self, territory: Territory, world: World) -> Question:
        """What the engine is asked about a world; made in a thread, for a city takes a while."""
        services = self.services
        settings = services.settings.dispatch
        clock = services.clock
        # On a fast clock a long plan would be a plan of the past.
        deadline_s = min(settings.plan_deadline_s, clock.real_s(settings.tick_s))
        return await asyncio.to_thread(
            ask, world, territory, services.settings.riders, clock.now(), settings.tick_s,
            deadline_s,
        )  # fmt: skip

    async def _decide(
        self,
        territory: Territory,
        partition: Partition,
        epoch: int,
        world: World,
        figures: Figures,
    ) -> Outcome:
        question = await self.question(territory, world)
        held: list[float] = []
        stale = False
        for part in await self.policies.parts(partition.city_id, question.snapshot):
            key = (partition.id, part.parameter_set)
            asked = replace(part.snapshot, previous=self._previous.get(key))
            started_s = time.perf_counter()
            answer = await self.planner.plan(asked)
            seconds = time.perf_counter() - started_s
            figures.decided(seconds)
            self._previous[key] = answer
            decision_id = self.decisions.record(
                partition.city_id, asked, answer, seconds=seconds, epoch=epoch,
                parameter_set=part.parameter_set,
                points=[(point.lat, point.lon) for point in question.points],
            )  # fmt: skip
            origin = Origin(decision_id=decision_id, parameter_set=part.parameter_set)
            stale |= await self._commit(
                territory, partition, epoch, world, answer.trips, origin, figures
            )
            held += [one.look_again_at_s for one in answer.held]
            figures.orders_held += len(answer.held)
            figures.orders_unassigned += len(answer.unassigned)
            figures.riders_missing += answer.statistics.riders_missing
        log.debug(
            "dispatched", partition_id=partition.id, orders=len(world.orders),
            riders=len(world.riders), counts=dict(figures.counts), held=len(held),
        )  # fmt: skip
        return Outcome(min(held, default=None), stale)

    async def _commit(
        self,
        territory: Territory,
        partition: Partition,
        epoch: int,
        world: World,
        planned: Sequence[Trip],
        origin: Origin,
        figures: Figures,
    ) -> bool:
        """Commit trips, a few at a time; whether any of them was stale.  Raises LeaseLost."""
        ready = []
        for trip in planned:
            if world.riders[trip.rider_id].trip is not None and not trip.extends:
                # Planned for the moment at which the rider will be free, which wakes us up.
                figures.counts["not_free_yet"] += 1
            else:
                ready.append(trip)
        if ready:
            crash_points.reached("plan_made")
        waiting_trips = iter(ready)
        stale = False

        async def commit_some() -> None:
            nonlocal stale
            for trip in waiting_trips:
                fix = world.fixes[trip.rider_id]
                here = replace(origin, point=Point(fix.lat, fix.lon))
                reason = await self._commit_one(territory, partition, epoch, trip, here)
                if reason is None:
                    figures.counts["extended" if trip.extends else "offered"] += 1
                else:
                    stale = True
                    figures.stale(reason)
                    log.info("assignment_stale", order_ids=trip.order_ids, reason=reason)

        at_once = min(len(ready), self.services.settings.dispatch.commits_at_once)
        _raise_first(
            await asyncio.gather(*(commit_some() for _ in range(at_once)), return_exceptions=True)
        )
        return stale

    async def _commit_one(
        self, territory: Territory, partition: Partition, epoch: int, trip: Trip, origin: Origin
    ) -> str | None:
        """None when it is committed, else why it is stale.  Raises LeaseLost."""
        services = self.services
        try:
            async with services.database.begin() as conn:
                await commit_trip(
                    conn, territory, services.settings.riders, services.clock, partition.id, epoch,
                    trip, origin,
                )  # fmt: skip
        except StaleAssignment as error:
            return error.reason
        except IllegalTransition:
            return "order_changed"
        except IntegrityError as error:
            return next(
                (why for name, why in _BROKEN_RULES.items() if name in str(error)), "changed"
            )
        except DBAPIError as error:
            if not lost(error) and getattr(error.orig, "sqlstate", None) in _CONTENTION:
                return "contention"
            raise
        return None

    async def _sweep(self, partition: Partition, epoch: int, figures: Figures) -> None:
        """End offers that nobody answered, and waits for orders that are not ready."""
        database, riders = self.services.database, self.services.settings.riders
        async with database.begin() as conn:
            expired = await dispatching.expired_offers(conn, partition)
            late = await batches.late_for_their_trips(
                conn, partition.city_id, sorted(partition.store_ids), riders.batch_wait_s
            )
        for trip_id in expired:
            async with database.begin() as conn:
                await fence(conn, partition.id, epoch)
                await offers.expire(conn, trip_id, riders.offers)
            figures.counts["offers_expired"] += 1
        for trip_id in late:
            async with database.begin() as conn:
                await fence(conn, partition.id, epoch)
                left = await batches.leave_late_behind(conn, trip_id, riders.batch_wait_s)
            figures.counts["left_behind"] += left


def _raise_first(results: Iterable[BaseException | None]) -> None:
    """A lost lease before anything else."""
    errors = [error for error in results if error is not None]
    for error in errors:
        if isinstance(error, LeaseLost):
            raise error
    if errors:
        raise errors[0]
