"""What modules of integration tests share beside the fixtures of every layer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kit.db import Database
from kit.engines import EmbeddedPostgres
from kit.relay import relay_batch
from server.consumers import CONSUMERS
from server.verify import verify_database
from tests.addresses import Addresses
from tests.support import new_database, opened_database

# Nothing is late in a module whose clock jumps by days.
NEVER_LATE_S = 3600.0 * 24 * 365


@pytest.fixture(scope="session")
async def empty_cluster(home: Path) -> Path:
    """A stopped cluster as initdb leaves it, to be copied: initdb waits seconds for the disk."""
    made = EmbeddedPostgres(home / "cluster")
    await made.start()
    await made.stop()
    return made.data_dir


@pytest.fixture(scope="module")
async def judged_database(engines: Addresses, template: str) -> AsyncIterator[Database]:
    """One database for a module; when its tests are done, no invariant may be broken in it."""
    async with new_database(engines.database_url, template) as url:
        async with opened_database(url) as database:
            yield database
            while await relay_batch(database, CONSUMERS):
                pass
            checks = await verify_database(database, None, patience_s=NEVER_LATE_S)
            assert {check.name: check.examples for check in checks if check.broken_rows} == {}
