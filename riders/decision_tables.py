"""What dispatch has decided, and the parameter sets that are compared in it.

The decisions themselves (question and answer) are in files; here is where to find them, and what
became of each order.  Times are those of the snapshots.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from kit.db import id_type, metadata

dispatch_decisions = Table(
    "dispatch_decisions",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("city_id", id_type(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    # When it was written, on the real clock: what is old is forgotten by it.
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("epoch", BigInteger, nullable=False),
    Column("parameter_set", id_type(), nullable=False),
    Column("engine", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("orders", Integer, nullable=False),
    Column("riders", Integer, nullable=False),
    Column("trips", Integer, nullable=False),
    # Where the whole decision is: a file below the log's directory, and the byte at which it
    # starts; null if it could not be written.
    Column("file", Text),
    Column("file_offset", BigInteger),
    # How many before this one the log had no room for.
    Column("dropped", Integer, nullable=False, server_default=text("0")),
    Index("ix_dispatch_decisions_city_id_at", "city_id", "at"),
    Index("ix_dispatch_decisions_recorded_at", "recorded_at"),
)

# One row whenever what dispatch does with an order changes, not one a decision.
dispatch_explanations = Table(
    "dispatch_explanations",
    metadata,
    Column("order_id", id_type(), primary_key=True),
    Column(
        "decision_id",
        id_type(),
        ForeignKey("dispatch_decisions.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
    Column("outcome", Text, nullable=False),
    # Of an order that is held or has nobody.
    Column("reason", Text),
    Column("look_again_at", DateTime(timezone=True)),
    # Of one that is given to a rider; the terms are cost seconds.
    Column("rider_id", id_type()),
    Column("order_ids", ARRAY(Text)),
    Column("cost_terms", JSONB),
    Column("cost", Double),
    Column("runner_up_rider_id", id_type()),
    Column("runner_up_cost", Double),
    Column("pickup_at", DateTime(timezone=True)),
    Column("dropoff_at", DateTime(timezone=True)),
    CheckConstraint("outcome IN ('assigned', 'held', 'unassigned')", name="outcome"),
    CheckConstraint("(outcome = 'assigned') = (rider_id IS NOT NULL)", name="rider"),
)

# Named changes to the parameters that the program comes with; 'default' is no change.
dispatch_parameter_sets = Table(
    "dispatch_parameter_sets",
    metadata,
    Column("city_id", id_type(), ForeignKey("cities.id"), primary_key=True),
    Column("name", id_type(), primary_key=True),
    Column("overrides", JSONB, nullable=False),
    Column("note", Text, nullable=False, server_default=text("''")),
    # The city plans with it, as long as nothing is compared.
    Column("in_use", Boolean, nullable=False, server_default=text("false")),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("updated_by", id_type(), nullable=False),
    CheckConstraint("name ~ '^[a-z][a-z0-9_-]{0,39}$' AND name <> 'default'", name="name"),
    Index(
        "uq_dispatch_parameter_sets_in_use",
        "city_id",
        unique=True,
        postgresql_where=text("in_use"),
    ),
)

# Two parameter sets at work in one city, until it is ended; the row stays for its outcome.
dispatch_experiments = Table(
    "dispatch_experiments",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("city_id", id_type(), ForeignKey("cities.id"), nullable=False, index=True),
    Column("control", id_type(), nullable=False),
    Column("treatment", id_type(), nullable=False),
    # What each set changed when it began: a set may be edited or deleted afterwards.
    Column("control_overrides", JSONB, nullable=False),
    Column("treatment_overrides", JSONB, nullable=False),
    Column("unit", Text, nullable=False),
    Column("store_ids", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("window_s", Integer, nullable=False),
    Column("washout_s", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("started_by", id_type(), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("ended_by", id_type()),
    CheckConstraint("unit IN ('city', 'store', 'fixed')", name="unit"),
    CheckConstraint("control <> treatment", name="sets"),
    CheckConstraint("window_s BETWEEN 60 AND 86400", name="window_s"),
    CheckConstraint("washout_s >= 0 AND washout_s < window_s", name="washout_s"),
    CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="ended"),
    Index(
        "uq_dispatch_experiments_running",
        "city_id",
        unique=True,
        postgresql_where=text("ended_at IS NULL"),
    ),
)
