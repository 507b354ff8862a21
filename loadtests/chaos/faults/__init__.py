"""Every fault that the harness itself causes; what clients do is in `loadtests.chaos.clients`."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.chaos.faults.base import Fault
from loadtests.chaos.faults.engines import (
    EmptyValkey,
    FullDisk,
    FullSpool,
    KillBackend,
    KillPostgres,
    KillValkey,
    ShutPostgres,
    StopPostgres,
)
from loadtests.chaos.faults.outside import ClockJump, PoisonEvent, Provider
from loadtests.chaos.faults.processes import POINTS, CrashAt, KillProcess, StopLeaseHolder
from loadtests.chaos.faults.wires import Flapping, Wire
from loadtests.chaos.proxy import Mode

WIRES = ("http", "stream", "postgres", "valkey", "provider")


def all_faults(processes: Sequence[str]) -> list[Fault]:
    """One of each, for a system of these processes."""
    return [
        *(KillProcess(name) for name in processes),
        *(CrashAt(point) for point in POINTS),
        StopLeaseHolder(),
        KillPostgres(), KillBackend(), StopPostgres(), ShutPostgres(), KillValkey(),
        EmptyValkey(), FullDisk(), FullSpool(),
        *(Wire(wire, mode) for wire in WIRES for mode in (Mode.SLOW, Mode.HALF_OPEN, Mode.REFUSE)),
        *(Flapping(wire) for wire in WIRES),
        Provider("takes the money and never answers", ("timeout_charged",),
                 timeout_charged_rate=0.6),
        Provider("never answers, takes nothing", ("timeout_failed",), timeout_failed_rate=0.6),
        Provider("webhooks doubled and out of order", ("duplicate_webhook",), duplicate_rate=1.0),
        Provider("declines", ("decline",), decline_rate=0.7),
        Provider("slow", ("delay",), delay_ms=2_500),
        Provider("outage", ("outage",), outage=True),
        ClockJump(), PoisonEvent(),
    ]  # fmt: skip
