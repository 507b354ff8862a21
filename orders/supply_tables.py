"""What is known of supply and demand (server/supply.py brings it up to date).

None of it is truth: it is computed again from orders, shifts and trips within seconds.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
)
from sqlalchemy.dialects.postgresql import JSONB

from kit.db import id_type, metadata

# What quotes of a store are told; a row past ``valid_until`` is as good as none.
store_supply = Table(
    "store_supply",
    metadata,
    Column("store_id", id_type(), ForeignKey("stores.id"), primary_key=True),
    Column("growth_s", Integer, nullable=False),
    # The smoothed value behind ``growth_s``.
    Column("level_s", Double, nullable=False),
    Column("riders_short", Boolean, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("valid_until", DateTime(timezone=True), nullable=False),
    CheckConstraint("growth_s >= 0 AND level_s >= 0", name="growth"),
    # Rewritten every few seconds: room on the page keeps that away from the index.
    postgresql_with={"fillfactor": "50"},
)

# What ops see of a city: the last report, and what it would do about it.
city_supply = Table(
    "city_supply",
    metadata,
    Column("city_id", id_type(), ForeignKey("cities.id"), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("report", JSONB, nullable=False),
    postgresql_with={"fillfactor": "50"},
)

# Orders by store and quarter of an hour, for the same time of earlier weeks.  A quarter without
# orders has a row too: nothing was ordered is known, nothing is known is not.
store_demand = Table(
    "store_demand",
    metadata,
    Column("store_id", id_type(), ForeignKey("stores.id"), primary_key=True),
    Column("bucket_at", DateTime(timezone=True), primary_key=True),
    Column("orders", Integer, nullable=False),
    CheckConstraint("orders >= 0", name="orders"),
    Index("ix_store_demand_bucket_at", "bucket_at"),
)
