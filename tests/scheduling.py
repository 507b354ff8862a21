"""Which tests pytest-xdist hands to a process together."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

from tests.addresses import EXTERNAL


class ByModule(LoadGroupScheduling):
    """A module's tests on one kind of engines stay together, unless they have a group.

    What a module sets up (a provider's process, a city's streets) is set up once that way, and no
    process goes back to engines that it has left: those of a session are made for one kind at a
    time.  Modules come in the order in which they were collected, and the simulations one after
    another: two living cities at once would tell how fast the machine is.
    """

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        group = super()._split_scope(nodeid)
        if group != nodeid:
            return group
        module, _, test = nodeid.partition("::")
        if "simulation" in module.split("/"):
            return "simulation"
        words = test.partition("[")[2].rstrip("]").split("-")
        return f"{module} {EXTERNAL}" if EXTERNAL in words else module
