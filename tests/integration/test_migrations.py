"""The schema goes up, down and up again, and is what the code says that it is."""

from __future__ import annotations

from sqlalchemy import text

from kit.db import Database, metadata
from orders.model import edges
from server.migrate import differences, downgrade, migrate


async def relations(database: Database) -> set[str]:
    """Tables and functions in the public schema."""
    async with database.begin() as conn:
        tables = await conn.scalars(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        )
        functions = await conn.scalars(
            text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
        )
        return {*tables, *functions}


async def test_up_down_and_up_again(empty_database: Database) -> None:
    """From nothing to the present, back to nothing, and to the same present again."""
    await migrate(empty_database)
    first = await relations(empty_database)
    assert set(metadata.tables) < first
    assert await differences(empty_database) == []
    await downgrade(empty_database, "base")
    assert await relations(empty_database) == {"alembic_version"}
    await migrate(empty_database)
    assert await relations(empty_database) == first
    assert await differences(empty_database) == []


async def test_migrating_again_changes_nothing(fresh_database: Database) -> None:
    """A second process that starts on the same database finds all done: epoch and clock stay."""
    query = text("SELECT epoch, anchor_real FROM stream_epoch, clock")
    async with fresh_database.begin() as conn:
        before = (await conn.execute(query)).one()
    await migrate(fresh_database)
    async with fresh_database.begin() as conn:
        assert (await conn.execute(query)).one() == before


async def test_the_database_holds_the_edges_of_the_code(fresh_database: Database) -> None:
    """The SQL copy of the three state machines equals the Python tables."""
    async with fresh_database.begin() as conn:
        rows = await conn.execute(text("SELECT machine, from_state, to_state FROM state_edges"))
        assert {tuple(row) for row in rows} == edges()
