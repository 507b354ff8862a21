"""Which gateway is asked, and whether it is asked at all.

A city's order of preference is a row of ``city_gateways``; where there is none, the settings say.
``payment_route`` (SQL) turns that and the customer's tokens into the route of an order, which its
first payment operation keeps: so a fallback asks what the checkout could ask, whatever was edited
meanwhile.

A ``Breaker`` leaves a gateway alone that does not answer.  It belongs to one process and one
gateway, and counts answers, not exceptions (docs/decisions/0017).
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from payments.gateway import GatewayOutcome, OutcomeCode
from payments.settings import BreakerSettings
from payments.tables import city_gateways

# What says that the gateway itself is in trouble.  A decline is an answer like any other.
_TROUBLE = frozenset(
    {
        OutcomeCode.UNAVAILABLE,
        OutcomeCode.RATE_LIMITED,
        OutcomeCode.TIMEOUT,
        OutcomeCode.NO_ANSWER,
        OutcomeCode.BAD_RESPONSE,
    }
)


def answered_well(outcome: GatewayOutcome) -> bool:
    """Whether an outcome shows a gateway that works."""
    return outcome.code not in _TROUBLE


class BreakerState(StrEnum):
    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Breaker:
    """Closed: all pass.  Open: none pass for a while.  Half open: one probe passes and decides.

    ``now_s`` is a monotonic clock in real seconds.  ``changed`` hears every change of state.
    """

    def __init__(
        self,
        settings: BreakerSettings,
        changed: Callable[[BreakerState], None] = lambda _: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._changed = changed
        self._now_s = now_s
        self._calls: deque[tuple[float, bool]] = deque()
        # Of those calls; counted along, because a busy gateway has thousands in its window.
        self._failures = 0
        self._reopens_at_s = 0.0
        self._openings = 0
        self._probing = False
        self._open = False

    @property
    def state(self) -> BreakerState:
        if not self._open:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._now_s() < self._reopens_at_s else BreakerState.HALF_OPEN

    @property
    def free(self) -> int | None:
        """How many calls may start now; None for any number."""
        match self.state:
            case BreakerState.CLOSED:
                return None
            case BreakerState.OPEN:
                return 0
            case BreakerState.HALF_OPEN:
                return 0 if self._probing else 1

    @contextmanager
    def call(self) -> Iterator[Callable[[bool], None] | None]:
        """Yields where to report whether the call went well, or None when none may be made.

        A call that ends without a report (cancelled, or a bug) says nothing of the gateway.
        """
        if self.free == 0:
            yield None
            return
        probe = self._open
        self._probing = self._probing or probe
        try:
            yield self._report_probe if probe else self._report
        finally:
            if probe:
                self._probing = False

    def _report(self, well: bool) -> None:
        if self._open:
            # It began before the breaker opened; the probe decides now.
            return
        now_s = self._now_s()
        self._calls.append((now_s, well))
        self._failures += not well
        while self._calls[0][0] < now_s - self._settings.window_s:
            _, good = self._calls.popleft()
            self._failures -= not good
        enough = len(self._calls) >= self._settings.min_calls
        if enough and self._failures >= self._settings.failure_rate * len(self._calls):
            self._openings = 0
            self._open_for_a_while(now_s)

    def _report_probe(self, well: bool) -> None:
        if not well:
            self._open_for_a_while(self._now_s())
            return
        self._open = False
        self._calls.clear()
        self._failures = 0
        self._changed(BreakerState.CLOSED)

    def _open_for_a_while(self, now_s: float) -> None:
        settings = self._settings
        ceiling_s = min(settings.open_max_s, settings.open_s * 2.0**self._openings)
        # Processes that opened together must not probe together.
        self._reopens_at_s = now_s + random.uniform(0.75, 1.0) * ceiling_s
        self._openings = min(self._openings + 1, 10)
        self._open = True
        self._changed(BreakerState.OPEN)


class Breakers:
    """The breakers of one process, made when a gateway is first asked."""

    def __init__(
        self,
        settings: BreakerSettings,
        changed: Callable[[str, BreakerState], None] = lambda _name, _state: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._changed = changed
        self._now_s = now_s
        self._made: dict[str, Breaker] = {}

    def of(self, gateway: str) -> Breaker:
        found = self._made.get(gateway)
        if found is None:
            found = Breaker(
                self._settings, lambda state: self._changed(gateway, state), self._now_s
            )
            self._made[gateway] = found
        return found


async def gateways_of_city(conn: AsyncConnection, city_id: str) -> dict[str, list[str]]:
    """The order of preference that operators gave a city, by method; others go by the settings."""
    rows = await conn.execute(
        select(city_gateways.c.method, city_gateways.c.gateways)
        .where(city_gateways.c.city_id == city_id)
        .order_by(city_gateways.c.method)
    )
    return {row.method: list(row.gateways) for row in rows}


async def set_gateways_of_city(
    conn: AsyncConnection,
    city_id: str,
    wanted: Mapping[str, Sequence[str]],
    actor: str,
    at: datetime,
) -> None:
    """Replace a city's preferences.  Orders that are placed already keep their route."""
    await conn.execute(
        delete(city_gateways).where(
            city_gateways.c.city_id == city_id, city_gateways.c.method.not_in(list(wanted))
        )
    )
    for method, gateways in sorted(wanted.items()):
        values = {"gateways": list(gateways), "updated_at": at, "updated_by": actor}
        await conn.execute(
            insert(city_gateways)
            .values(city_id=city_id, method=method, **values)
            .on_conflict_do_update(
                index_elements=[city_gateways.c.city_id, city_gateways.c.method], set_=values
            )
        )
