"""Quotes, orders, their lines, their one history, and the edges of the three state machines."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from kit.db import id_type, metadata


def _totals() -> list[Column[int]]:
    names = (
        "items_total", "tax", "delivery_fee", "small_order_fee", "discount", "tip", "total",
    )  # fmt: skip
    return [Column(f"{name}_minor", BigInteger, nullable=False) for name in names]


_TOTAL_ADDS_UP = (
    "total_minor = items_total_minor + tax_minor + delivery_fee_minor + small_order_fee_minor"
    " - discount_minor + tip_minor AND total_minor > 0"
)

# A quote, an order, its lines and its history name rows that are never deleted, and that the
# routine which writes them has just read or written: `darkstore verify` checks what they name
# (no_orphans) instead of 20 foreign keys an order, which also made all orders of a store and all
# of their quotes lock its one row (docs/decisions/0031).
quotes = Table(
    "quotes",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("user_id", id_type(), nullable=False),
    Column("store_id", id_type(), nullable=False),
    Column("city_id", id_type(), nullable=False),
    Column("lines", JSONB, nullable=False),
    *_totals(),
    Column("currency", id_type(), nullable=False),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    Column("address", Text, nullable=False),
    # Store to door, as ridden; the pick queue subtracts it from the promise.
    Column("travel_s", Integer, nullable=False),
    Column("promise_low_s", Integer, nullable=False),
    Column("promise_high_s", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("order_id", id_type()),
    # A scheduled delivery: when its slot begins, and when picking may begin for it.
    Column("slot_start", DateTime(timezone=True)),
    Column("pick_from", DateTime(timezone=True)),
    CheckConstraint(_TOTAL_ADDS_UP, name="total"),
    # Whose expense the discount is: 'platform', a store's id or 'supplier:…'; null without one.
    Column("discount_payer", id_type()),
    Index("ix_quotes_expires_at", "expires_at"),
    # Room for the one update that each of them gets, so that it writes to no index.
    postgresql_with={"fillfactor": "50"},
)

orders = Table(
    "orders",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("number", BigInteger, Identity(start=1001), nullable=False, unique=True),
    Column("user_id", id_type(), nullable=False),
    Column("store_id", id_type(), nullable=False),
    Column("city_id", id_type(), nullable=False),
    Column("quote_id", id_type(), nullable=False, unique=True),
    Column("status", Text, nullable=False),
    Column("delivery_status", Text, nullable=False),
    Column("payment_status", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("history_seq", Integer, nullable=False, server_default=text("0")),
    *_totals(),
    Column("refunded_minor", BigInteger, nullable=False, server_default=text("0")),
    # The part of the total that the customer's wallet pays; the gateway is asked for the rest.
    Column("wallet_minor", BigInteger, nullable=False, server_default=text("0")),
    # The part of refunded_minor that the wallet got, or never had to give (orders/paying.py).
    Column("wallet_refunded_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("currency", id_type(), nullable=False),
    Column("payment_method", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("substitution", Text, nullable=False),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    Column("address", Text, nullable=False),
    Column("travel_s", Integer, nullable=False),
    Column("delivery_code", id_type(), nullable=False),
    Column("tracking_token", id_type(), nullable=False, unique=True),
    Column("rider_id", id_type()),
    Column("placed_at", DateTime(timezone=True), nullable=False),
    Column("promised_low_at", DateTime(timezone=True), nullable=False),
    Column("promised_high_at", DateTime(timezone=True), nullable=False),
    Column("packed_at", DateTime(timezone=True)),
    Column("delivered_at", DateTime(timezone=True)),
    # A scheduled delivery, as in its quote; slot_held while it counts in its slot's `taken`.
    Column("slot_start", DateTime(timezone=True)),
    Column("pick_from", DateTime(timezone=True)),
    Column("slot_held", Boolean, nullable=False, server_default=text("false")),
    Column("address_note", Text),
    CheckConstraint(_TOTAL_ADDS_UP, name="total"),
    CheckConstraint("refunded_minor BETWEEN 0 AND total_minor", name="refunded"),
    CheckConstraint(
        "wallet_minor BETWEEN 0 AND total_minor"
        " AND wallet_refunded_minor BETWEEN 0 AND refunded_minor",
        name="wallet",
    ),
    Index("ix_orders_user_id_id", "user_id", "id"),
    Index("ix_orders_store_id_id", "store_id", "id"),
    # Recent demand of a store, which every round of dispatch and supply reads.
    Index("ix_orders_store_id_placed_at", "store_id", "placed_at"),
    Index(
        "ix_orders_undelivered",
        "city_id",
        "delivery_status",
        postgresql_where=text("delivery_status NOT IN ('done', 'failed', 'cancelled')"),
    ),
    Index("ix_orders_slot", "store_id", "slot_start", postgresql_where=text("slot_held")),
    Index(
        "ix_orders_due_for_picking",
        "pick_from",
        # Not on `status`: its many updates would all be written to every index.
        postgresql_where=text(
            "pick_from IS NOT NULL AND delivery_status NOT IN ('done', 'failed', 'cancelled')"
        ),
    ),
    Index(
        "ix_orders_carried",
        "rider_id",
        postgresql_where=text("delivery_status IN ('collected', 'at_door')"),
    ),
    postgresql_with={"fillfactor": "80"},
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", id_type(), primary_key=True),
    Column("line_id", id_type(), primary_key=True),
    Column("n", SmallInteger, nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("name", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price_minor", BigInteger, nullable=False),
    Column("line_total_minor", BigInteger, nullable=False),
    Column("tax_rate_bp", Integer, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("weight_g", Integer, nullable=False),
    Column("picked_quantity", Integer, nullable=False, server_default=text("0")),
    Column("missing_quantity", Integer, nullable=False, server_default=text("0")),
    Column("refunded_minor", BigInteger, nullable=False, server_default=text("0")),
    # Delivered units for which the customer got money back after a claim.
    Column("claimed_quantity", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("line_total_minor = quantity * unit_price_minor", name="line_total"),
    CheckConstraint("refunded_minor BETWEEN 0 AND line_total_minor + tax_minor", name="refunded"),
)

order_history = Table(
    "order_history",
    metadata,
    Column("order_id", id_type(), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("machine", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", id_type(), nullable=False),
    Column("reason", Text),
)

state_edges = Table(
    "state_edges",
    metadata,
    Column("machine", id_type(), primary_key=True),
    Column("from_state", id_type(), primary_key=True),
    Column("to_state", id_type(), primary_key=True),
)

# What has changed an order's price since it was confirmed (orders/adjustments.py).  Positive: the
# customer pays less; negative: a substitute that is charged, or a fee.  Never changed or deleted.
order_adjustments = Table(
    "order_adjustments",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("order_id", id_type(), ForeignKey("orders.id"), nullable=False, index=True),
    Column("line_id", id_type()),
    Column("kind", Text, nullable=False),
    Column("items_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("tax_rate_bp", Integer, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("reason", Text, nullable=False, server_default=text("''")),
    Column("actor", id_type(), nullable=False, server_default=text("'system'")),
    # The substitution or claim that it belongs to.
    Column("source_id", id_type(), index=True),
    # Until the delivery nothing is sold, so the ledger takes what was before in one piece with it.
    Column("after_delivery", Boolean, nullable=False, server_default=text("false")),
)

# What a picker offers in place of missing units: proposed, then approved or rejected, then picked
# or withdrawn.  The store's side of it is `pick_task_substitutes`.
order_substitutions = Table(
    "order_substitutions",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("order_id", id_type(), ForeignKey("orders.id"), nullable=False, index=True),
    Column("line_id", id_type(), nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("name", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("picked_quantity", Integer, nullable=False, server_default=text("0")),
    Column("missing_quantity", Integer, nullable=False, server_default=text("0")),
    Column("claimed_quantity", Integer, nullable=False, server_default=text("0")),
    Column("unit_price_minor", BigInteger, nullable=False),
    Column("tax_rate_bp", Integer, nullable=False),
    # What the customer pays for all of `quantity`: never more than for the units that are missing.
    Column("items_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    # What was charged for the picked units, and given back of it after claims.
    Column("charged_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("refunded_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("status", Text, nullable=False),
    # What happens when nobody answers until deadline_at: 'refund' or 'best_match'.
    Column("fallback", Text, nullable=False),
    Column("proposed_by", id_type(), nullable=False),
    Column("proposed_at", DateTime(timezone=True), nullable=False),
    Column("deadline_at", DateTime(timezone=True)),
    Column("decided_by", id_type()),
    Column("decided_at", DateTime(timezone=True)),
    CheckConstraint(
        "status IN ('proposed', 'approved', 'rejected', 'picked', 'withdrawn')", name="status"
    ),
    CheckConstraint(
        "quantity > 0 AND picked_quantity >= 0 AND missing_quantity >= 0"
        " AND picked_quantity + missing_quantity <= quantity"
        " AND claimed_quantity BETWEEN 0 AND picked_quantity",
        name="quantities",
    ),
    CheckConstraint(
        "items_minor >= 0 AND tax_minor >= 0 AND charged_minor <= items_minor + tax_minor"
        " AND refunded_minor BETWEEN 0 AND charged_minor",
        name="amounts",
    ),
    Index(
        "ix_order_substitutions_deadline_at",
        "deadline_at",
        postgresql_where=text("status = 'proposed'"),
    ),
)

ratings = Table(
    "ratings",
    metadata,
    Column("order_id", id_type(), ForeignKey("orders.id"), primary_key=True),
    Column("stars", SmallInteger, nullable=False),
    Column("comment", Text),
    Column("at", DateTime(timezone=True), nullable=False),
    CheckConstraint("stars BETWEEN 1 AND 5", name="stars"),
)

# What a customer says was wrong with a delivered order, and what became of it.
order_claims = Table(
    "order_claims",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("order_id", id_type(), ForeignKey("orders.id"), nullable=False, index=True),
    Column("user_id", id_type(), ForeignKey("users.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("comment", Text),
    # Where the customer's photo lies: an opaque reference, never the photo.
    Column("photo", Text),
    Column("status", Text, nullable=False),
    # What its units cost when it was made, which is the most that an approval gives back.
    Column("worth_minor", BigInteger, nullable=False),
    Column("refunded_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("refund_to", Text),
    Column("reason", Text),
    Column("decided_by", id_type()),
    Column("decided_at", DateTime(timezone=True)),
    Column("at", DateTime(timezone=True), nullable=False),
    CheckConstraint("status IN ('open', 'approved', 'rejected')", name="status"),
    CheckConstraint(
        "(status = 'open') = (decided_at IS NULL) AND refunded_minor >= 0"
        " AND (status = 'approved' OR refunded_minor = 0)",
        name="decision",
    ),
    Index("ix_order_claims_open", "id", postgresql_where=text("status = 'open'")),
    Index("ix_order_claims_user_id_at", "user_id", "at"),
)

# The units of a claim; `item_id` is the line, or the substitution that was delivered instead.
order_claim_lines = Table(
    "order_claim_lines",
    metadata,
    Column("claim_id", id_type(), ForeignKey("order_claims.id"), primary_key=True),
    Column("item_id", id_type(), primary_key=True),
    Column("order_id", id_type(), nullable=False),
    Column("line_id", id_type(), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("open", Boolean, nullable=False),
    Column("refunded_minor", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("quantity > 0", name="quantity"),
    Index(
        "uq_order_claim_lines_open",
        "order_id",
        "item_id",
        unique=True,
        postgresql_where=text("open"),
    ),
)

# What became of checkouts that waited on disk for the database (orders.spool).
queued_checkouts = Table(
    "queued_checkouts",
    metadata,
    # The id that the client was told.
    Column("id", id_type(), primary_key=True),
    Column("user_id", id_type(), nullable=False),
    # None: refused.  Another id than its own when a repeat of the request was faster.
    Column("order_id", id_type()),
    Column("code", Text),
    Column("detail", Text),
    Column("accepted_at", DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("(order_id IS NULL) = (code IS NOT NULL)", name="outcome"),
)

coupons = Table(
    "coupons",
    metadata,
    Column("code", id_type(), primary_key=True),
    Column("percent_bp", Integer, nullable=False),
    Column("max_discount_minor", BigInteger, nullable=False),
    Column("min_items_minor", BigInteger, nullable=False),
    Column("starts_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    # Who pays for the discount: us, the store that sells, or 'supplier:…'.
    Column("funded_by", id_type(), nullable=False, server_default=text("'platform'")),
    CheckConstraint("percent_bp BETWEEN 1 AND 9000", name="percent"),
)

# How full a quarter of an hour is.  A row exists once somebody has asked for it; `capacity` is
# what slot_capacity said when the last place was taken.
delivery_slots = Table(
    "delivery_slots",
    metadata,
    Column("store_id", id_type(), ForeignKey("stores.id"), primary_key=True),
    Column("starts_at", DateTime(timezone=True), primary_key=True),
    Column("capacity", Integer, nullable=False),
    Column("taken", Integer, nullable=False, server_default=text("0")),
    Column("blocked", Boolean, nullable=False, server_default=text("false")),
    Column("blocked_reason", Text),
    CheckConstraint("0 <= taken AND taken <= capacity", name="taken"),
    # Counted up and down by every scheduled order; without an index on it that stays heap-only.
    postgresql_with={"fillfactor": "50"},
)

# What a reschedule replaced; `version` is the order's after it.
order_reschedules = Table(
    "order_reschedules",
    metadata,
    Column("order_id", id_type(), ForeignKey("orders.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("from_slot", DateTime(timezone=True)),
    Column("to_slot", DateTime(timezone=True), nullable=False),
    Column("actor", id_type(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

# Where an order was to go before its address was changed.  Personal: read by nothing but audits.
order_past_addresses = Table(
    "order_past_addresses",
    metadata,
    Column("order_id", id_type(), ForeignKey("orders.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    Column("address", Text, nullable=False),
    Column("note", Text),
    Column("travel_s", Integer, nullable=False),
    Column("promised_high_at", DateTime(timezone=True), nullable=False),
    Column("actor", id_type(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

# Who cancelled an order, at which stage, and what that cost: the answer that was given.
order_cancellations = Table(
    "order_cancellations",
    metadata,
    Column("order_id", id_type(), ForeignKey("orders.id"), primary_key=True),
    Column("party", Text, nullable=False),
    Column("actor", id_type(), nullable=False),
    Column("reason", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("refund_minor", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    CheckConstraint("fee_minor >= 0 AND refund_minor >= 0", name="amounts"),
)
