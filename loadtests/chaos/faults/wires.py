"""The network between any two: slow, coming and going, half open, gone."""

from __future__ import annotations

import asyncio
import random
import time

from loadtests.chaos.faults.base import Fault, NotStruck
from loadtests.chaos.proxy import Link, Mode
from loadtests.chaos.system import System

# A half-open wire outlasts no deadline of ours by much: then everybody has given up on it.
LASTS_S = {Mode.SLOW: 8.0, Mode.HALF_OPEN: 8.0, Mode.REFUSE: 6.0}
# One way, for each piece of data.  A phone's network for clients, a sick switch for engines.
LATENCY_S = {"http": (0.1, 0.6), "stream": (0.1, 0.6), "provider": (0.2, 1.0)}
ENGINE_LATENCY_S = (0.01, 0.08)
FLAPPING_S = 6.0
# A wire shares the lane of what is at its other end: two outages of one engine in a row are enough.
LANES = {
    "http": "clients", "stream": "clients", "postgres": "engines", "valkey": "engines",
    "provider": "outside",
}  # fmt: skip
FLAPS_S = (0.2, 0.8)


class Wire(Fault):
    """A wire in one of its sick modes."""

    def __init__(self, wire: str, mode: Mode) -> None:
        self.wire, self.mode = wire, mode
        self.name = f"{wire}: {'unreachable' if mode is Mode.REFUSE else mode.value}"
        self.lane = LANES[wire]
        self.lasts_s = LASTS_S[mode]

    async def strike(self, system: System, rng: random.Random) -> str:
        link = system.links[self.wire]
        before = link.struck.copy()
        await link.become(self.mode, LATENCY_S.get(self.wire, ENGINE_LATENCY_S))
        await asyncio.sleep(self.lasts_s)
        return _evidence(link, before)

    async def heal(self, system: System) -> None:
        await system.links[self.wire].become(Mode.PASS)


class Flapping(Fault):
    """Every connection is reset, again and again."""

    lasts_s = FLAPPING_S

    def __init__(self, wire: str) -> None:
        self.wire = wire
        self.name = f"{wire}: flapping"
        self.lane = LANES[wire]

    async def strike(self, system: System, rng: random.Random) -> str:
        link = system.links[self.wire]
        before = link.struck.copy()
        until_s = time.monotonic() + FLAPPING_S
        while time.monotonic() < until_s:
            link.cut()
            await asyncio.sleep(rng.uniform(*FLAPS_S))
        return _evidence(link, before)


def _evidence(link: Link, before: dict[str, int]) -> str:
    struck = {what: n - before.get(what, 0) for what, n in link.struck.items()}
    found = {what: n for what, n in struck.items() if n > 0}
    if not found:
        raise NotStruck("nobody used the wire")
    return ", ".join(f"{n} {what}" for what, n in sorted(found.items()))
