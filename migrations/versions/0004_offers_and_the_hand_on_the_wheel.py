"""Offers and the hand on the wheel.

Revision: 0004
After: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.Text(collation="C")
_TIME = sa.DateTime(timezone=True)
_JSON = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    _riders()
    op.create_table(
        "dispatch_alerts",
        sa.Column("id", _ID, nullable=False),
        sa.Column("city_id", _ID, nullable=False),
        sa.Column("store_id", _ID, nullable=False),
        sa.Column("order_id", _ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("trip_id", _ID, nullable=True),
        sa.Column("rider_id", _ID, nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("facts", _JSON, nullable=False),
        sa.Column("raised_at", _TIME, nullable=False),
        sa.Column("resolved_at", _TIME, nullable=True),
        sa.Column("resolved_by", _ID, nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('needs_rider', 'rider_silent', 'handed_back')",
            name=op.f("ck_dispatch_alerts_kind"),
        ),
        sa.CheckConstraint(
            "(resolved_at IS NULL) = (resolved_by IS NULL)"
            " AND (resolved_at IS NULL) = (resolution IS NULL)",
            name=op.f("ck_dispatch_alerts_resolution"),
        ),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_dispatch_alerts_order_id_orders")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatch_alerts")),
    )
    op.create_index(
        "uq_dispatch_alerts_open",
        "dispatch_alerts",
        ["order_id", "kind"],
        unique=True,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_index("ix_dispatch_alerts_city_id_id", "dispatch_alerts", ["city_id", "id"])
    op.create_table(
        "dispatch_controls",
        sa.Column("id", _ID, nullable=False),
        sa.Column("city_id", _ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("order_id", _ID, nullable=True),
        sa.Column("rider_id", _ID, nullable=True),
        sa.Column("store_id", _ID, nullable=True),
        sa.Column("zone_id", _ID, nullable=True),
        sa.Column("hold_dispatch", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("stop_orders", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("set_by", _ID, nullable=False),
        sa.Column("set_at", _TIME, nullable=False),
        sa.Column("until", _TIME, nullable=False),
        sa.Column("released_at", _TIME, nullable=True),
        sa.Column("released_by", _ID, nullable=True),
        sa.Column("release_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "CASE kind"
            " WHEN 'pin' THEN order_id IS NOT NULL AND rider_id IS NOT NULL"
            " AND store_id IS NULL AND zone_id IS NULL"
            " WHEN 'exclude' THEN rider_id IS NOT NULL AND zone_id IS NULL"
            " AND (order_id IS NULL OR store_id IS NULL)"
            " WHEN 'pause' THEN order_id IS NULL AND rider_id IS NULL"
            " AND (store_id IS NULL OR zone_id IS NULL)"
            " ELSE false END",
            name=op.f("ck_dispatch_controls_target"),
        ),
        sa.CheckConstraint(
            "(kind = 'pause') = (hold_dispatch OR stop_orders)",
            name=op.f("ck_dispatch_controls_flags"),
        ),
        sa.CheckConstraint("until > set_at", name=op.f("ck_dispatch_controls_ends")),
        sa.CheckConstraint(
            "(released_at IS NULL) = (released_by IS NULL)",
            name=op.f("ck_dispatch_controls_released"),
        ),
        sa.ForeignKeyConstraint(
            ["city_id"], ["cities.id"], name=op.f("fk_dispatch_controls_city_id_cities")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatch_controls")),
    )
    op.create_index("ix_dispatch_controls_city_id_id", "dispatch_controls", ["city_id", "id"])
    op.create_index(
        "ix_dispatch_controls_unreleased",
        "dispatch_controls",
        ["city_id"],
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", _ID, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object_kind", sa.Text(), nullable=False),
        sa.Column("object_id", _ID, nullable=False),
        sa.Column("city_id", _ID, nullable=True),
        sa.Column("store_id", _ID, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("before", _JSON, nullable=True),
        sa.Column("after", _JSON, nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index("ix_audit_log_city_id_id", "audit_log", ["city_id", "id"])
    op.create_index("ix_audit_log_object_id_id", "audit_log", ["object_id", "id"])
    op.create_index("ix_audit_log_actor_id", "audit_log", ["actor", "id"])


def _riders() -> None:
    for column in (
        sa.Column("auto_accept", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("offers_missed", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("paused_at", _TIME, nullable=True),
        sa.Column("paused_until", _TIME, nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("acted_at", _TIME, nullable=True),
    ):
        op.add_column("riders", column)
    op.create_check_constraint(
        op.f("ck_riders_pause"),
        "riders",
        "(paused_at IS NULL) = (pause_reason IS NULL)"
        " AND (paused_until IS NULL OR paused_at IS NOT NULL)",
    )
    op.add_column("offers", sa.Column("note", sa.Text(), nullable=True))
    op.add_column(
        "offers", sa.Column("auto", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    # Until now a rider could give any reason in words.
    op.execute(
        "UPDATE offers SET note = reason, reason = 'other' WHERE status = 'declined'"
        " AND (reason IS NULL OR reason NOT IN ('too_far', 'vehicle_problem', 'break', 'too_heavy',"
        " 'unsafe_area', 'shift_ends', 'other'))"
    )
    op.create_check_constraint(
        op.f("ck_offers_reason"),
        "offers",
        "status <> 'declined' OR reason IN ('too_far', 'vehicle_problem', 'break', 'too_heavy',"
        " 'unsafe_area', 'shift_ends', 'other')",
    )
    op.create_index("ix_offers_rider_id_made_at", "offers", ["rider_id", "made_at"])
    op.add_column(
        "declines",
        sa.Column("misses", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.create_table(
        "store_queue",
        sa.Column("rider_id", _ID, nullable=False),
        sa.Column("store_id", _ID, nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["rider_id"], ["riders.id"], name=op.f("fk_store_queue_rider_id_riders")
        ),
        sa.PrimaryKeyConstraint("rider_id", name=op.f("pk_store_queue")),
    )
    op.create_index(op.f("ix_store_queue_store_id"), "store_queue", ["store_id"])


def downgrade() -> None:
    for table in ("audit_log", "dispatch_controls", "dispatch_alerts", "store_queue"):
        op.drop_table(table)
    op.drop_column("declines", "misses")
    op.drop_index("ix_offers_rider_id_made_at", "offers")
    op.drop_constraint(op.f("ck_offers_reason"), "offers", type_="check")
    op.drop_column("offers", "auto")
    op.drop_column("offers", "note")
    op.drop_constraint(op.f("ck_riders_pause"), "riders", type_="check")
    for column in (
        "acted_at", "pause_reason", "paused_until", "paused_at", "offers_missed", "auto_accept",
    ):  # fmt: skip
        op.drop_column("riders", column)
