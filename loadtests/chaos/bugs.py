"""Known bugs, patched into the running processes: a fault run must find each.

``python -m loadtests.chaos.bugs NAME ARGUMENTS…`` is ``darkstore ARGUMENTS…`` with the bug in it.
A test of one part shows none of them: it takes a fault, a second try, or a row that somebody else
has locked at that moment.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any


def relay_marks_first() -> None:
    """The relay marks events as done, commits, and runs their consumers after that."""
    from kit import crash_points, relay
    from kit.db import Database
    from kit.relay import BATCH, Consumer, OutboxEvent
    from server.workers import outbox_relay

    async def relay_batch(
        database: Database, consumers: Mapping[str, Sequence[Consumer]], **_: object
    ) -> list[OutboxEvent]:
        async with database.begin() as conn:
            events = [OutboxEvent(*row) for row in await relay._BATCH.all(conn, BATCH)]
            if events:
                await relay._DONE.run(conn, [event.id for event in events], False)
        if events:
            crash_points.reached("relay_before_commit")
        async with database.begin() as conn:
            await relay._consume_each(conn, events, consumers)
        return events

    vars(outbox_relay)["relay_batch"] = relay_batch


def new_key_for_a_second_try() -> None:
    """An operation that is sent again gets a new key, so the gateway does it again."""
    from kit.ids import new_id
    from orders import payment_flow

    send = payment_flow._send

    async def resend(gateway: Any, operation: Any, *rest: Any, **named: Any) -> Any:
        if operation.attempts > 1:
            operation = replace(operation, id=new_id("pay"))
        return await send(gateway, operation, *rest, **named)

    payment_flow._send = resend


def time_out_means_no() -> None:
    """A payment that was not answered counts as failed."""
    from payments import gateway_sandbox
    from payments.gateway import GatewayOutcome, OutcomeStatus

    authorise = gateway_sandbox.SandboxGateway.authorise

    async def hasty(self: Any, *arguments: Any, **named: Any) -> GatewayOutcome:
        outcome = await authorise(self, *arguments, **named)
        if outcome.status is OutcomeStatus.UNKNOWN:
            return replace(outcome, status=OutcomeStatus.FAILED, code="timeout")
        return outcome

    gateway_sandbox.SandboxGateway.authorise = hasty  # type: ignore[method-assign]


def forgets_keys() -> None:
    """Idempotency keys are neither looked up nor kept (checkout has its own)."""
    from kit import idempotency

    async def find(*_: object) -> None:
        return None

    async def store(*_: object) -> None:
        return None

    vars(idempotency).update(find=find, store=store)


def never_checks_the_lease() -> None:
    """A dispatcher that has had a lease believes that it has it, and its writes believe it too."""
    from riders import leases
    from server.lease_keeper import LeaseKeeper

    async def holds(*_: object) -> bool:
        return True

    hold = LeaseKeeper._hold

    def keep(self: LeaseKeeper, found: dict[str, int]) -> None:
        hold(self, {**self.held, **found})

    leases.holds = holds
    LeaseKeeper._hold = keep  # type: ignore[method-assign]


# By bug: what turns red, of `darkstore verify` or of the judge.
CAUGHT_BY: Mapping[str, tuple[str, ...]] = {
    "relay_marks_first": ("pick_tasks_match_orders",),
    "new_key_for_a_second_try": ("captures_agree_with_gateway",),
    "time_out_means_no": ("captures_agree_with_gateway",),
    "forgets_keys": (
        "acknowledged stock bookings took effect once",
        "no promise is broken before a client's eyes",
    ),
    # `loadtests.failover` alone looks at who wrote what.
    "never_checks_the_lease": ("the woken dispatcher writes nothing",),
}

BUGS = (
    relay_marks_first, new_key_for_a_second_try, time_out_means_no, forgets_keys,
    never_checks_the_lease,
)  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Patch the named bug in and become the program."""
    name, *rest = arguments
    {bug.__name__: bug for bug in BUGS}[name]()
    sys.argv = ["darkstore", *rest]
    runpy.run_module("server.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
