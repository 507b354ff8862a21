"""Embedded Postgres and Valkey, their instance, and the supervisor of the application's processes.

Nothing started here outlives its parent (Linux), not even a kill -9 of it.
"""

from kit.engines.errors import EngineError
from kit.engines.instance import Engines, RunningInstance, engines, running_instance
from kit.engines.postgres import EmbeddedPostgres
from kit.engines.supervisor import ChildCommand, ChildState, ChildStatus, Supervisor
from kit.engines.valkey import EmbeddedValkey

__all__ = [
    "ChildCommand",
    "ChildState",
    "ChildStatus",
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "EngineError",
    "Engines",
    "RunningInstance",
    "Supervisor",
    "engines",
    "running_instance",
]
