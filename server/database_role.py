"""The role with which the application works on the database: it cannot rewrite history.

``migrate`` makes ``darkstore_app`` where it may, and says what it may do: read and write the
tables, but only add to those of ``APPEND_ONLY``, and only read those of ``READ_ONLY``.  It owns
nothing, so it can neither truncate nor alter a table or its triggers.  Every connection of the
application takes this role when it opens, which costs a statement nothing.

The role lets nobody in by itself (NOLOGIN): the account of DATABASE_URL steps down to it.
"""

from __future__ import annotations

import asyncpg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import CONNECT_TIMEOUT_S, DatabaseUnavailable

log = structlog.get_logger(__name__)

ROLE = "darkstore_app"

APPEND_ONLY = (
    "ledger_transactions", "ledger_postings", "ledger_days", "ledger_day_balances",
    "rider_deposits", "settlement_runs", "settlement_lines", "earnings", "stock_movements",
    "order_history", "order_adjustments", "order_cancellations", "order_reschedules",
    "audit_log",
)  # fmt: skip
# What migrate writes.
READ_ONLY = ("alembic_version", "state_edges", "ledger_accounts")

# Roles belong to the whole server, so another database's migrate may make it at the same time.
_CREATE = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
        CREATE ROLE {ROLE} NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN
    NULL;
END $$
"""
# A superuser may take any role; anybody else has to be a member of it.
_JOIN = f"""
DO $$ BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT {ROLE} TO %I', current_user);
    END IF;
EXCEPTION WHEN insufficient_privilege OR unique_violation THEN
    NULL;
END $$
"""  # noqa: S608
_GRANTS = (
    f"GRANT USAGE ON SCHEMA public TO {ROLE}",
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}",
    f"REVOKE UPDATE, DELETE, TRUNCATE ON {', '.join(APPEND_ONLY)} FROM {ROLE}",
    f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {', '.join(READ_ONLY)} FROM {ROLE}",
    f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {ROLE}",
)


async def prepare(conn: AsyncConnection) -> bool:
    """Make the role (once a server) and say what it may do (each time); False if it cannot be."""
    await conn.exec_driver_sql(_CREATE)
    exists = await conn.scalar(
        text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)"), {"role": ROLE}
    )
    if not exists:
        log.warning(
            "database_role_missing",
            role=ROLE,
            detail=(
                f"The database account may not create roles, so that only triggers keep the ledger"
                f" append-only. Let an administrator run: CREATE ROLE {ROLE} NOLOGIN;"
                f" GRANT {ROLE} TO the account of DATABASE_URL; then migrate again."
            ),
        )
        return False
    await conn.exec_driver_sql(_JOIN)
    for statement in _GRANTS:
        await conn.exec_driver_sql(statement)
    return True


async def usable(url: str, role: str) -> str | None:
    """``role`` if the account of ``url`` may take it, else None (with a warning in the log).

    Raises DatabaseUnavailable.
    """
    try:
        conn = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError) as error:
        raise DatabaseUnavailable("The database does not answer; try again.") from error
    try:
        await conn.execute(f"SET ROLE {role}")
    except (asyncpg.InvalidParameterValueError, asyncpg.InsufficientPrivilegeError) as error:
        log.warning("database_role_not_used", role=role, detail=str(error))
        return None
    finally:
        await conn.close()
    return role
