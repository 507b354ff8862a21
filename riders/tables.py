"""Riders, their shifts, the trips that they ride, the offers that they get, dispatch leases."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
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
    Column("distance_m", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("lease_epoch", BigInteger, nullable=False),
    # One trip at a time: a rider who is offered or rides one gets no second.
    Index(
        "uq_trips_open",
        "rider_id",
        unique=True,
        postgresql_where=text("status IN ('offered', 'active')"),
    ),
)

trip_stops = Table(
    "trip_stops",
    metadata,
    Column("trip_id", id_type(), ForeignKey("trips.id"), primary_key=True),
    Column("n", SmallInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("order_id", id_type(), nullable=False),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    Column("planned_at", DateTime(timezone=True), nullable=False),
    Column("status", Text, nullable=False),
    Column("cash_due_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("arrived_at", DateTime(timezone=True)),
    Column("completed_at", DateTime(timezone=True)),
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
    Index("ix_offers_open", "expires_at", postgresql_where=text("status = 'open'")),
)

declines = Table(
    "declines",
    metadata,
    Column("order_id", id_type(), primary_key=True),
    Column("rider_id", id_type(), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    # Null: for good.  A rider who only missed an offer may be asked again after a while.
    Column("until", DateTime(timezone=True)),
)

dispatch_leases = Table(
    "dispatch_leases",
    metadata,
    Column("city_id", id_type(), ForeignKey("cities.id"), primary_key=True),
    Column("holder", id_type(), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
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
