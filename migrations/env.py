"""Alembic's environment: it runs on the connection that ``server.migrate`` hands in."""

from __future__ import annotations

from alembic import context

from server.migrate import METADATA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    compare_type=True,
    compare_server_default=False,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
