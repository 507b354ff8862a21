"""The city while it runs: a live panel on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from simulator.city import City
from simulator.report import percentiles
from simulator.tally import STAGES

_REFRESH_S: Final = 0.5
_LINE_EVERY_S: Final = 5.0
_RECENT: Final = 200


@dataclass(frozen=True, slots=True)
class Glance:
    """What is shown: figures of now, rates since the glance before."""

    clock: str
    speed: float
    stages: tuple[tuple[str, int], ...]
    ended: tuple[tuple[str, int], ...]
    kept_share: float | None
    door_p50_s: float | None
    door_p90_s: float | None
    riders_busy: int
    riders: int
    sockets: int
    events_a_s: float
    requests_a_s: float
    server_errors: int
    gaps: int


class Glances:
    """Takes glances; rates are over the real time between two of them."""

    def __init__(self, city: City) -> None:
        self._city = city
        self._at_s = time.monotonic()
        self._events = 0
        self._requests = 0

    def take(self) -> Glance:
        world = self._city.world
        tally = world.tally
        now_s = time.monotonic()
        passed_s = max(1e-6, now_s - self._at_s)
        requests = world.api.http.statistics.requests
        events_a_s = (tally.events - self._events) / passed_s
        requests_a_s = (requests - self._requests) / passed_s
        self._at_s, self._events, self._requests = now_s, tally.events, requests
        by_status = tally.by_status()
        recent = [order.click_to_door_s for order in list(tally.delivered)[-_RECENT:]]
        door_s = percentiles(recent)
        return Glance(
            clock=world.clock.now().strftime("%Y-%m-%d %H:%M:%S"),
            speed=world.clock.speed,
            stages=tuple((stage, by_status[stage]) for stage in STAGES[:-1]),
            ended=tuple(
                (state, by_status[state])
                for state in ("delivered", "cancelled", "payment_failed", "undeliverable")
            ),
            kept_share=tally.share_kept(world.clock.now()),
            door_p50_s=door_s["p50"],
            door_p90_s=door_s["p90"],
            riders_busy=tally.riders_busy_now,
            riders=tally.riders,
            sockets=tally.sockets_open,
            events_a_s=events_a_s,
            requests_a_s=requests_a_s,
            server_errors=tally.server_errors,
            gaps=tally.gap_count,
        )


async def show(city: City, console: Console) -> None:
    """Show the city until cancelled."""
    glances = Glances(city)
    if not console.is_terminal:
        await _repeat(_LINE_EVERY_S, lambda: console.print(line(glances.take()), soft_wrap=True))
        return
    with Live(panel(glances.take()), console=console, auto_refresh=False) as live:
        await _repeat(_REFRESH_S, lambda: live.update(panel(glances.take()), refresh=True))


async def _repeat(every_s: float, do: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(every_s)
        do()


def line(glance: Glance) -> str:
    """One line for a log."""
    stages = " ".join(f"{name} {count}" for name, count in (*glance.stages, *glance.ended) if count)
    return (
        f"{glance.clock} x{glance.speed:g} | {stages or 'no orders yet'}"
        f" | promise kept {_share(glance.kept_share)}"
        f" | click to door {_minutes(glance.door_p50_s)} / {_minutes(glance.door_p90_s)}"
        f" | riders busy {glance.riders_busy}/{glance.riders}"
        f" | {glance.events_a_s:.0f} events/s {glance.requests_a_s:.0f} requests/s"
    )


def panel(glance: Glance) -> Table:
    """A small table for a terminal."""
    table = Table(title=f"The city at {glance.clock} (x{glance.speed:g})", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("on their way", ", ".join(f"{n} {name}" for name, n in glance.stages))
    table.add_row("over", ", ".join(f"{n} {name}" for name, n in glance.ended))
    table.add_row("promise kept", _share(glance.kept_share))
    door = f"p50 {_minutes(glance.door_p50_s)}, p90 {_minutes(glance.door_p90_s)}"
    table.add_row("click to door", door)
    table.add_row("riders busy", f"{glance.riders_busy} of {glance.riders}")
    rates = f"{glance.events_a_s:.0f} events/s, {glance.requests_a_s:.0f} requests/s"
    table.add_row("traffic", f"{rates}, {glance.sockets} sockets")
    table.add_row("trouble", f"{glance.server_errors} server errors, {glance.gaps} gaps")
    return table


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _minutes(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 60.0:.1f} min"
