"""State machines on a real database: an event loop to run in, a shop for each, verify at the end.

Hypothesis is synchronous, so the machines run in a loop of their own; each example gets a city,
a store and a customer of its own in one shared database.  ``MACHINE_EXAMPLES`` in the environment
runs more of them than CI has time for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from kit.db import Database
from server.verify import verify_database
from tests.order_support import Shop, open_shop
from tests.support import new_database, opened_database

Answer = TypeVar("Answer")
MANY = "MACHINE_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "25"))
STEPS = 20


class ShopMachine(RuleBasedStateMachine):
    """A machine around a `Shop`; ``database`` and ``runner`` are set for the time of the test."""

    database: ClassVar[Database]
    runner: ClassVar[asyncio.Runner]

    def __init__(self) -> None:
        super().__init__()
        self.shop: Shop = self.run(open_shop(self.database))

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(work)

    async def broken(self) -> dict[str, tuple[str, ...]]:
        """The checks of ``darkstore verify`` that do not hold."""
        checks = await verify_database(self.database, None, patience_s=30.0)
        return {check.name: check.examples for check in checks if check.broken_rows}


@contextmanager
def opened(server_url: str, template: str) -> Iterator[None]:
    """A database and a loop for machines."""
    with asyncio.Runner() as runner:
        new = new_database(server_url, template)
        url = runner.run(new.__aenter__())
        try:
            using = opened_database(url, size=4)
            ShopMachine.database = runner.run(using.__aenter__())
            ShopMachine.runner = runner
            try:
                yield
            finally:
                runner.run(using.__aexit__(None, None, None))
        finally:
            runner.run(new.__aexit__(None, None, None))


def assert_model_is_followed(machine: type[ShopMachine], server_url: str, template: str) -> None:
    """Run examples of a machine; raises what breaks one.

    Shrinking it to its shortest form takes minutes on a database, so that is for those who asked
    for many examples.
    """
    phases = [Phase.generate] + ([Phase.shrink] if MANY else [])
    with opened(server_url, template):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                phases=phases,
                suppress_health_check=list(HealthCheck),
                database=None,
                derandomize=not MANY,
            ),
        )
