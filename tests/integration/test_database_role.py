"""The application's own connections can add to the books, and cannot rewrite them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError

from kit.db import Database
from ledger.chart import Account
from ledger.postings import credit, debit, post
from server.database_role import APPEND_ONLY, READ_ONLY, ROLE, usable
from server.migrate import migrate
from server.settings import Settings
from server.wiring import open_services
from tests.addresses import Addresses
from tests.http_support import identity_settings
from tests.order_support import open_shop
from tests.support import new_database, opened_database

# Who may make roles and give rights changed between Postgres' releases.
pytestmark = pytest.mark.every_engine


def url_of(database: Database) -> str:
    return database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
async def application(fresh_database: Database) -> AsyncIterator[Database]:
    """The pools that every process of the application works with."""
    settings = Settings(
        identity=identity_settings(),
        database_url=url_of(fresh_database),
        redis_url="redis://127.0.0.1:1/0",
    )
    async with open_services(settings, process="test", pool_size=2) as services:
        yield services.database


REWRITES = ("UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0} CASCADE",
            "ALTER TABLE {0} DISABLE TRIGGER ALL", "DROP TABLE {0} CASCADE")  # fmt: skip


async def refused(database: Database, statement: str) -> bool:
    """Whether both pools refuse it for lack of a privilege (not for any other reason)."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.pool.execute(statement)
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        async with database.begin() as conn:
            await conn.exec_driver_sql(statement)
    return True


async def test_the_application_cannot_rewrite_the_books(
    application: Database, fresh_database: Database
) -> None:
    """Update, delete, truncate, a trigger switched off, a table dropped: all refused."""
    shop = await open_shop(fresh_database)
    await shop.order_at("settled")
    assert await application.pool.fetchval("SELECT current_user") == ROLE
    for table in APPEND_ONLY:
        column = await application.pool.fetchval(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0"
            " AND attidentity = '' LIMIT 1",
            table,
        )
        for rewrite in REWRITES:
            assert await refused(application, rewrite.format(table, column)), table


async def test_the_application_can_add_to_the_books(application: Database) -> None:
    """The very connections that cannot change a posting can post one."""
    async with application.begin() as conn:
        postings = [debit(Account.BANK, 5), credit(Account.STORE_CASH, 5)]
        assert await post(conn, "one", "test", "INR", postings)
        assert not await post(conn, "one", "test", "INR", postings)


async def test_an_order_lives_its_whole_life_under_the_role(
    application: Database, fresh_database: Database
) -> None:
    """From the checkout through the relay to its refund, nothing needs more than it may do."""
    shop = await open_shop(fresh_database)
    shop.database = application
    (product,) = await shop.stock(20)
    await shop.credit(2_000)
    order_id = await shop.order_at(
        "settled", {product.sku_id: 2}, missing={product.sku_id: 1}, use_wallet=True
    )
    assert await shop.states(order_id) == ("delivered", "done", "partially_refunded")


async def test_what_migrate_says_cannot_be_changed_by_the_application(
    application: Database,
) -> None:
    """The state machines, the chart of accounts and the schema's revision are read only."""
    for table in READ_ONLY:
        assert await refused(application, f"DELETE FROM {table}"), table
        assert await refused(application, f"INSERT INTO {table} SELECT * FROM {table}"), table


async def test_every_table_is_there_for_the_application(
    application: Database, fresh_database: Database
) -> None:
    """A new table needs no grant of its own: migrate gives it."""
    async with fresh_database.begin() as conn:
        missing = await conn.scalars(
            text(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " AND relkind = 'r' AND NOT has_table_privilege(:role, oid, 'SELECT')"
            ),
            {"role": ROLE},
        )
        assert list(missing) == []


async def test_an_account_that_may_not_create_roles_works_without(engines: Addresses) -> None:
    """It migrates and runs as itself; where an administrator has made the role, it is used."""
    name, password = f"owner_{secrets.token_hex(4)}", secrets.token_hex(8)
    async with new_database(engines.database_url) as url:
        admin = await asyncpg.connect(url)
        try:
            await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
            await admin.execute(f"ALTER SCHEMA public OWNER TO {name}")
            theirs = make_url(url).set(username=name, password=password)
            their_url = theirs.render_as_string(hide_password=False)
            async with opened_database(their_url, size=2) as database:
                await migrate(database)
                assert await usable(their_url, ROLE) is None
                assert await usable(their_url, "no_such_role") is None
                await admin.execute(f"GRANT {ROLE} TO {name}")
                assert await usable(their_url, ROLE) == ROLE
                await migrate(database)
            role_database = await Database.open(their_url, size=1, role=ROLE)
            try:
                assert await role_database.pool.fetchval("SELECT current_user") == ROLE
                assert await role_database.pool.fetchval("SELECT count(*) FROM orders") == 0
            finally:
                await role_database.close()
        finally:
            await admin.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
            await admin.execute(f"DROP OWNED BY {name}")
            await admin.execute(f"DROP ROLE {name}")
            await admin.close()
