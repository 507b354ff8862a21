"""Riders, their shifts, the trips that they ride, the offers that they get, dispatch leases."""

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
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from kit.db import id_type, metadata

riders = Table(
    "riders",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("user_id", id_type(), ForeignKey("users.id"), nullable=False, unique=True),
    Column("city_id", id_type(), ForeignKey("cities.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("vehicle", Text, nullable=False),
    Column("capacity_orders", SmallInteger, nullable=False, server_default=text("1")),
    Column("capacity_g", Integer, nullable=False, server_default=text("20000")),
    Column("version", Integer, nullable=False, server_default=text("1")),
    # Offers are taken for the rider at once (riders/availability.py, like all that follows).
    Column("auto_accept", Boolean, nullable=False, server_default=text("false")),
    # Offers in a row that ran out unanswered.
    Column("offers_missed", SmallInteger, nullable=False, server_default=text("0")),
    # A pause: no offers until it ends, or, without an end, until the rider says so.
    Column("paused_at", DateTime(timezone=True)),
    Column("paused_until", DateTime(timezone=True)),
    Column("pause_reason", Text),
    # When the rider last did something with the phone that only a person does.
    Column("acted_at", DateTime(timezone=True)),
    CheckConstraint(
        "(paused_at IS NULL) = (pause_reason IS NULL)"
        " AND (paused_until IS NULL OR paused_at IS NOT NULL)",
        name="pause",
    ),
)

shifts = Table(
    "shifts",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("rider_id", id_type(), ForeignKey("riders.id"), nullable=False, index=True),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Column("stopped_at", DateTime(timezone=True)),
    Index(
        "uq_shifts_open",
        "rider_id",
        unique=True,
        postgresql_where=text("stopped_at IS NULL"),
    ),
)

trips = Table(
    "trips",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("rider_id", id_type(), ForeignKey("riders.id"), nullable=False),
    Column("city_id", id_type(), nullable=False),
    Column("store_id", id_type(), nullable=False),
    Column("status", Text, nullable=False),
    Column("rider_code", id_type(), nullable=False),
    Column("pay_minor", Integer, nullable=False),
    Column("currency", id_type(), nullable=False),
    # From the first pickup to the last drop-off, and before that from the rider's place.
    Column("distance_m", Integer, nullable=False),
    Column("empty_m", Integer, nullable=False, server_default=text("0")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("lease_epoch", BigInteger, nullable=False),
    # The dispatch parameters and the recorded decision that it came from.
    Column("parameter_set", id_type(), nullable=False, server_default=text("'default'")),
    Column("decision_id", id_type()),
    # One trip at a time: a rider who is offered or rides one gets no second.
    Index(
        "uq_trips_open",
        "rider_id",
        unique=True,
        postgresql_where=text("status IN ('offered', 'active')"),
    ),
    # A rider's work on this shift.
    Index("ix_trips_rider_id_created_at", "rider_id", "created_at"),
    Index("ix_trips_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)

trip_stops = Table(
    "trip_stops",
    metadata,
    Column("trip_id", id_type(), ForeignKey("trips.id"), primary_key=True),
    # What phones call the stop; it stays when the trip grows.  Stops are ridden by `position`.
    Column("n", SmallInteger, primary_key=True),
    Column("position", SmallInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("order_id", id_type(), nullable=False),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    Column("planned_at", DateTime(timezone=True), nullable=False),
    Column("status", Text, nullable=False),
    Column("cash_due_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("arrived_at", DateTime(timezone=True)),
    Column("completed_at", DateTime(timezone=True)),
    # Checked at the end of a statement: a trip that grows shifts many at once.
    UniqueConstraint("trip_id", "position", deferrable=True, initially="IMMEDIATE"),
)

assignments = Table(
    "assignments",
    metadata,
    Column("order_id", id_type(), primary_key=True),
    Column("trip_id", id_type(), ForeignKey("trips.id"), primary_key=True),
    Column("rider_id", id_type(), ForeignKey("riders.id"), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("assigned_at", DateTime(timezone=True), nullable=False),
    # The backstop against a second dispatcher: one active rider an order.
    Index("uq_assignments_active", "order_id", unique=True, postgresql_where=text("active")),
    Index("ix_assignments_trip_id", "trip_id"),
)

offers = Table(
    "offers",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("trip_id", id_type(), ForeignKey("trips.id"), nullable=False, unique=True),
    Column("rider_id", id_type(), ForeignKey("riders.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("answered_at", DateTime(timezone=True)),
    Column("reason", Text),
    # What the rider added to the reason, and whether nobody had to be asked.
    Column("note", Text),
    Column("auto", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint(
        "status <> 'declined' OR reason IN ('too_far', 'vehicle_problem', 'break', 'too_heavy',"
        " 'unsafe_area', 'shift_ends', 'other')",
        name="reason",
    ),
    Index("ix_offers_open", "expires_at", postgresql_where=text("status = 'open'")),
    Index("ix_offers_rider_id_made_at", "rider_id", "made_at"),
)

declines = Table(
    "declines",
    metadata,
    Column("order_id", id_type(), primary_key=True),
    Column("rider_id", id_type(), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    # Null: for good.  A rider who only missed an offer may be asked again after a while.
    Column("until", DateTime(timezone=True)),
    Column("misses", SmallInteger, nullable=False, server_default=text("0")),
)

# Riders without a trip who stand at a store, first come first (riders/waiting.py).
store_queue = Table(
    "store_queue",
    metadata,
    Column("rider_id", id_type(), ForeignKey("riders.id"), primary_key=True),
    Column("store_id", id_type(), nullable=False, index=True),
    Column("since", DateTime(timezone=True), nullable=False),
)

dispatch_leases = Table(
    "dispatch_leases",
    metadata,
    # A city's id, or "city/part" for the second part of a city and those after it.
    Column("partition_id", id_type(), primary_key=True),
    Column("city_id", id_type(), ForeignKey("cities.id"), nullable=False, index=True),
    Column("holder", id_type(), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

# What the dispatchers of a partition have done since it exists; one row a partition, counted up
# with each look.  `decision_buckets` are counts by the bounds of riders.figures.DECISION_BOUNDS_S.
dispatch_figures = Table(
    "dispatch_figures",
    metadata,
    Column("partition_id", id_type(), primary_key=True),
    Column("city_id", id_type(), ForeignKey("cities.id"), nullable=False, index=True),
    Column("looked_at", DateTime(timezone=True), nullable=False),
    Column("decision_buckets", ARRAY(BigInteger), nullable=False),
    Column("decision_s", Double, nullable=False),
    # By what is counted: trips offered and extended, each reason for a stale part, and so on.
    Column("counts", JSONB, nullable=False),
    # As of the last look.
    Column("orders_held", Integer, nullable=False),
    Column("orders_unassigned", Integer, nullable=False),
    Column("riders_missing", Integer, nullable=False),
)

road_networks = Table(
    "road_networks",
    metadata,
    Column("city_id", id_type(), ForeignKey("cities.id"), primary_key=True),
    Column("source", Text, nullable=False),
    Column("roads", LargeBinary, nullable=False),
    Column("travel_times", LargeBinary, nullable=False),
    Column("built_at", DateTime(timezone=True), nullable=False),
)

earnings = Table(
    "earnings",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("rider_id", id_type(), ForeignKey("riders.id"), nullable=False, index=True),
    # Null for an incentive, which is for no order.
    Column("order_id", id_type()),
    Column("kind", Text, nullable=False),
    Column("note", Text),
    Column("amount_minor", Integer, nullable=False),
    Column("currency", id_type(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("order_id", "kind"),
)
