"""Cities, dark stores, the zones that they serve, their stock and their pick tasks."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from kit.db import id_type, metadata

cities = Table(
    "cities",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("currency", id_type(), nullable=False),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    # An IANA name: opening hours are what the clock on the store's wall says.
    Column("timezone", Text, nullable=False, server_default=text("'UTC'")),
)

stores = Table(
    "stores",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("city_id", id_type(), ForeignKey("cities.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    Column("open", Boolean, nullable=False, server_default=text("true")),
    Column("paused_reason", Text),
    # Opening hours in minutes after local midnight, and how many orders a quarter of an hour
    # takes; store_hours and slot_capacities say what differs by weekday and hour.
    Column("opens_minute", SmallInteger, nullable=False, server_default=text("420")),
    Column("closes_minute", SmallInteger, nullable=False, server_default=text("1380")),
    Column("slot_capacity", SmallInteger, nullable=False, server_default=text("8")),
    # What holds for a product unless its own stock row says otherwise: at how many available units
    # it counts as low, and how many days before a lot's date the lot is no longer sold.
    Column("low_stock_at", Integer, nullable=False, server_default=text("3")),
    Column("expiry_block_days", SmallInteger, nullable=False, server_default=text("1")),
    # Which part of its city's dispatch the store belongs to; a city that is not split has part 0.
    Column("dispatch_part", SmallInteger, nullable=False, server_default=text("0")),
    CheckConstraint("dispatch_part >= 0", name="dispatch_part"),
)

# Weekdays are 0 (Monday) to 6.  A day that opens when it closes is a day off.
store_hours = Table(
    "store_hours",
    metadata,
    Column("store_id", id_type(), ForeignKey("stores.id"), primary_key=True),
    Column("weekday", SmallInteger, primary_key=True),
    Column("opens_minute", SmallInteger, nullable=False),
    Column("closes_minute", SmallInteger, nullable=False),
    CheckConstraint("weekday BETWEEN 0 AND 6", name="weekday"),
    CheckConstraint(
        "0 <= opens_minute AND opens_minute <= closes_minute AND closes_minute <= 1440",
        name="hours",
    ),
)

slot_capacities = Table(
    "slot_capacities",
    metadata,
    Column("store_id", id_type(), ForeignKey("stores.id"), primary_key=True),
    Column("weekday", SmallInteger, primary_key=True),
    Column("hour", SmallInteger, primary_key=True),
    Column("capacity", SmallInteger, nullable=False),
    CheckConstraint("weekday BETWEEN 0 AND 6 AND hour BETWEEN 0 AND 23", name="hour"),
    CheckConstraint("capacity >= 0", name="capacity"),
)

zones = Table(
    "zones",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("store_id", id_type(), ForeignKey("stores.id"), nullable=False, index=True),
    Column("polygon", JSONB, nullable=False),
    Column("priority", Integer, nullable=False, server_default=text("0")),
)

bins = Table(
    "bins",
    metadata,
    Column("store_id", id_type(), ForeignKey("stores.id"), primary_key=True),
    Column("code", id_type(), primary_key=True),
    Column("temperature", Text, nullable=False),
    Column("walk_order", Integer, nullable=False),
)

stock = Table(
    "stock",
    metadata,
    Column("store_id", id_type(), ForeignKey("stores.id"), primary_key=True),
    Column("sku_id", id_type(), ForeignKey("products.sku_id"), primary_key=True),
    Column("on_hand", Integer, nullable=False, server_default=text("0")),
    Column("reserved", Integer, nullable=False, server_default=text("0")),
    Column("bin", id_type(), nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    # Units of lots that are too near their date to be sold.  They may still be promised to orders
    # of before, so `available` can be below nought; a checkout wants it to be enough.
    Column("blocked", Integer, nullable=False, server_default=text("0")),
    Column("available", Integer, Computed("on_hand - reserved - blocked", persisted=True)),
    Column("low_stock_at", Integer),
    Column("expiry_block_days", SmallInteger),
    CheckConstraint("0 <= reserved AND reserved <= on_hand", name="no_oversell"),
    CheckConstraint("0 <= blocked AND blocked <= on_hand", name="blocked"),
    ForeignKeyConstraint(["store_id", "bin"], ["bins.store_id", "bins.code"]),
    # Updates touch no indexed column, so with room on the page they stay heap-only.
    postgresql_with={"fillfactor": "70"},
)

lots = Table(
    "lots",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("store_id", id_type(), nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("on_hand", Integer, nullable=False),
    Column("expires_on", Date),
    Column("received_at", DateTime(timezone=True), nullable=False),
    # Too near its date to be sold: counted in the stock row's `blocked`.
    Column("blocked", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("on_hand >= 0", name="on_hand"),
    ForeignKeyConstraint(["store_id", "sku_id"], ["stock.store_id", "stock.sku_id"]),
    Index("ix_lots_store_id_sku_id", "store_id", "sku_id", "expires_on"),
    Index("ix_lots_expires_on", "expires_on", postgresql_where=text("NOT blocked")),
)

# Every movement is checked by the trigger stock_movements_are_legal (sql/routines/050_stock.sql):
# a CHECK of that length is parsed anew by each statement, which cost more than the insert.
stock_movements = Table(
    "stock_movements",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("store_id", id_type(), nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("kind", Text, nullable=False),
    Column("on_hand_delta", Integer, nullable=False),
    Column("reserved_delta", Integer, nullable=False),
    Column("order_id", id_type()),
    Column("actor", id_type(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("bagged_delta", Integer, nullable=False, server_default=text("0")),
    Column("lot_id", id_type()),
    Column("reason", Text),
    # The delivery, count or transfer that it belongs to.
    Column("reference", id_type()),
    Index("ix_stock_movements_store_id_sku_id", "store_id", "sku_id"),
    Index("ix_stock_movements_order_id", "order_id", postgresql_where=text("bagged_delta <> 0")),
    Index(
        "ix_stock_movements_reference", "reference", postgresql_where=text("reference IS NOT NULL")
    ),
)

# A delivery from a supplier; its lines are the movements that name it.
receipts = Table(
    "receipts",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("store_id", id_type(), ForeignKey("stores.id"), nullable=False),
    Column("supplier", Text, nullable=False),
    Column("supplier_reference", Text, nullable=False),
    Column("received_by", id_type(), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    # A delivery note is booked once.
    UniqueConstraint("store_id", "supplier", "supplier_reference"),
)

# Counting: somebody opens a count, counts blind, and what differs too much waits for a decision.
stock_counts = Table(
    "stock_counts",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("store_id", id_type(), ForeignKey("stores.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("opened_by", id_type(), nullable=False),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("closed_at", DateTime(timezone=True)),
    CheckConstraint("status IN ('open', 'pending', 'closed')", name="status"),
    Index("ix_stock_counts_store_id", "store_id", "id"),
)

stock_count_lines = Table(
    "stock_count_lines",
    metadata,
    Column("count_id", id_type(), ForeignKey("stock_counts.id"), primary_key=True),
    Column("sku_id", id_type(), primary_key=True),
    Column("store_id", id_type(), nullable=False),
    Column("bin", id_type(), nullable=False),
    Column("status", Text, nullable=False, server_default=text("'open'")),
    Column("counted", Integer),
    # What was on hand at `counted_at`, whatever was picked since.
    Column("expected", Integer),
    Column("counted_by", id_type()),
    Column("counted_at", DateTime(timezone=True)),
    Column("reason", Text),
    # What the books took over, and the missing units that orders hold: those stay on the books
    # until a picker finds them missing.
    Column("applied", Integer, nullable=False, server_default=text("0")),
    Column("short", Integer, nullable=False, server_default=text("0")),
    Column("decided_by", id_type()),
    Column("decided_at", DateTime(timezone=True)),
    CheckConstraint(
        "status IN ('open', 'pending', 'applied', 'rejected', 'skipped')", name="status"
    ),
    CheckConstraint("counted >= 0 AND short >= 0", name="counted"),
    CheckConstraint(
        "status <> 'applied' OR counted - expected = applied - short", name="variance_applied"
    ),
    ForeignKeyConstraint(["store_id", "sku_id"], ["stock.store_id", "stock.sku_id"]),
    # Two counts of one product at once would correct the same difference twice.
    Index(
        "uq_stock_count_lines_open", "store_id", "sku_id", unique=True,
        postgresql_where=text("status IN ('open', 'pending')"),
    ),
)  # fmt: skip

stock_transfers = Table(
    "stock_transfers",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("from_store_id", id_type(), ForeignKey("stores.id"), nullable=False),
    Column("to_store_id", id_type(), ForeignKey("stores.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("created_by", id_type(), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("dispatched_by", id_type()),
    Column("dispatched_at", DateTime(timezone=True)),
    Column("closed_by", id_type()),
    Column("closed_at", DateTime(timezone=True)),
    CheckConstraint("status IN ('created', 'dispatched', 'received', 'cancelled')", name="status"),
    CheckConstraint("from_store_id <> to_store_id", name="two_stores"),
    Index("ix_stock_transfers_from_store_id", "from_store_id", "id"),
    Index("ix_stock_transfers_to_store_id", "to_store_id", "id"),
)

stock_transfer_lines = Table(
    "stock_transfer_lines",
    metadata,
    Column("transfer_id", id_type(), ForeignKey("stock_transfers.id"), primary_key=True),
    Column("sku_id", id_type(), primary_key=True),
    Column("quantity", Integer, nullable=False),
    Column("received", Integer),
    CheckConstraint("quantity > 0 AND received BETWEEN 0 AND quantity", name="quantity"),
)

# The units that are between two stores, lot by lot: `in_transit` is where they are meanwhile.
stock_transfer_lots = Table(
    "stock_transfer_lots",
    metadata,
    Column("transfer_id", id_type(), primary_key=True),
    Column("sku_id", id_type(), primary_key=True),
    Column("lot_id", id_type(), ForeignKey("lots.id"), primary_key=True),
    Column("expires_on", Date),
    Column("sent", Integer, nullable=False),
    Column("in_transit", Integer, nullable=False),
    CheckConstraint("sent > 0 AND in_transit IN (0, sent)", name="in_transit"),
    ForeignKeyConstraint(
        ["transfer_id", "sku_id"],
        ["stock_transfer_lines.transfer_id", "stock_transfer_lines.sku_id"],
    ),
)

# Products that have run low and were told of; the row goes when they have risen again.
low_stock = Table(
    "low_stock",
    metadata,
    Column("store_id", id_type(), primary_key=True),
    Column("sku_id", id_type(), primary_key=True),
    Column("since", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["store_id", "sku_id"], ["stock.store_id", "stock.sku_id"]),
)

# "Tell me when it is back": waiting until fired, once.
stock_alerts = Table(
    "stock_alerts",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("user_id", id_type(), nullable=False),
    Column("store_id", id_type(), nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("fired_at", DateTime(timezone=True)),
    ForeignKeyConstraint(["store_id", "sku_id"], ["stock.store_id", "stock.sku_id"]),
    Index("ix_stock_alerts_user_id", "user_id", "id"),
    Index(
        "uq_stock_alerts_waiting", "store_id", "sku_id", "user_id", unique=True,
        postgresql_where=text("fired_at IS NULL"),
    ),
)  # fmt: skip

reservations = Table(
    "reservations",
    metadata,
    Column("order_id", id_type(), primary_key=True),
    # Whose order it is: how many a customer has open is limited.
    Column("user_id", id_type()),
    Column("store_id", id_type(), nullable=False),
    Column("status", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Index("ix_reservations_expires_at", "expires_at", postgresql_where=text("status = 'held'")),
    Index("ix_reservations_open", "user_id", postgresql_where=text("status IN ('held', 'firm')")),
)

reservation_lines = Table(
    "reservation_lines",
    metadata,
    # Of `reservations`, as darkstore verify checks (no_orphans); see docs/decisions/0031.
    Column("order_id", id_type(), primary_key=True),
    Column("sku_id", id_type(), primary_key=True),
    Column("quantity", Integer, nullable=False),
    Column("open_quantity", Integer, nullable=False),
    CheckConstraint("quantity > 0", name="quantity"),
    CheckConstraint("open_quantity BETWEEN 0 AND quantity", name="open_quantity"),
)

pick_tasks = Table(
    "pick_tasks",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("order_id", id_type(), nullable=False, unique=True),
    Column("store_id", id_type(), ForeignKey("stores.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("picker_id", id_type()),
    Column("claimed_at", DateTime(timezone=True)),
    Column("packed_at", DateTime(timezone=True)),
    Column("bags", SmallInteger),
    Column("shelf", Text),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Index("ix_pick_tasks_store_id_status_due_at", "store_id", "status", "due_at"),
)

pick_task_lines = Table(
    "pick_task_lines",
    metadata,
    # Of `pick_tasks`, as darkstore verify checks (no_orphans).
    Column("pick_task_id", id_type(), primary_key=True),
    Column("line_id", id_type(), primary_key=True),
    Column("n", SmallInteger, nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("name", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("picked", Integer, nullable=False, server_default=text("0")),
    Column("missing", Integer, nullable=False, server_default=text("0")),
    Column("bin", id_type(), nullable=False),
    Column("temperature", Text, nullable=False),
    Column("barcode", id_type(), nullable=False),
    CheckConstraint("picked >= 0 AND missing >= 0 AND picked + missing <= quantity", name="picked"),
)

# What may go into the bag in place of a line's missing units; `orders` decides about it.
pick_task_substitutes = Table(
    "pick_task_substitutes",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("pick_task_id", id_type(), ForeignKey("pick_tasks.id"), nullable=False, index=True),
    Column("line_id", id_type(), nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("name", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("picked", Integer, nullable=False, server_default=text("0")),
    Column("missing", Integer, nullable=False, server_default=text("0")),
    Column("bin", id_type(), nullable=False),
    Column("temperature", Text, nullable=False),
    Column("barcode", id_type(), nullable=False),
    Column("status", Text, nullable=False),
    Column("deadline_at", DateTime(timezone=True)),
    CheckConstraint("picked >= 0 AND missing >= 0 AND picked + missing <= quantity", name="picked"),
)
