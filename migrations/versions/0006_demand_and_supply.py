"""Demand and supply.

Revision: 0006
After: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.Text(collation="C")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "store_supply",
        sa.Column("store_id", _ID, nullable=False),
        sa.Column("growth_s", sa.Integer(), nullable=False),
        sa.Column("level_s", sa.Double(), nullable=False),
        sa.Column("riders_short", sa.Boolean(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("valid_until", _TIME, nullable=False),
        sa.CheckConstraint("growth_s >= 0 AND level_s >= 0", name=op.f("ck_store_supply_growth")),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name=op.f("fk_store_supply_store_id_stores")
        ),
        sa.PrimaryKeyConstraint("store_id", name=op.f("pk_store_supply")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "city_supply",
        sa.Column("city_id", _ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("report", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["city_id"], ["cities.id"], name=op.f("fk_city_supply_city_id_cities")
        ),
        sa.PrimaryKeyConstraint("city_id", name=op.f("pk_city_supply")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "store_demand",
        sa.Column("store_id", _ID, nullable=False),
        sa.Column("bucket_at", _TIME, nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.CheckConstraint("orders >= 0", name=op.f("ck_store_demand_orders")),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name=op.f("fk_store_demand_store_id_stores")
        ),
        sa.PrimaryKeyConstraint("store_id", "bucket_at", name=op.f("pk_store_demand")),
    )
    op.create_index("ix_store_demand_bucket_at", "store_demand", ["bucket_at"])
    op.create_table(
        "rider_proposals",
        sa.Column("id", _ID, nullable=False),
        sa.Column("rider_id", _ID, nullable=False),
        sa.Column("city_id", _ID, nullable=False),
        sa.Column("store_id", _ID, nullable=False),
        sa.Column("way_s", sa.Integer(), nullable=False),
        sa.Column("chance", sa.Double(), nullable=False),
        sa.Column("gain_s", sa.Double(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("made_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "status IN ('open', 'accepted', 'dismissed', 'arrived', 'withdrawn', 'expired')",
            name=op.f("ck_rider_proposals_status"),
        ),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (status IN ('open', 'accepted'))",
            name=op.f("ck_rider_proposals_ended"),
        ),
        sa.ForeignKeyConstraint(
            ["rider_id"], ["riders.id"], name=op.f("fk_rider_proposals_rider_id_riders")
        ),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name=op.f("fk_rider_proposals_store_id_stores")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rider_proposals")),
    )
    op.create_index(
        "uq_rider_proposals_open",
        "rider_proposals",
        ["rider_id"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "ix_rider_proposals_rider_id_made_at", "rider_proposals", ["rider_id", "made_at"]
    )
    op.create_index(
        "ix_rider_proposals_city_open",
        "rider_proposals",
        ["city_id"],
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_orders_store_id_placed_at", "orders", ["store_id", "placed_at"])
    op.create_index("ix_trips_rider_id_created_at", "trips", ["rider_id", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_trips_rider_id_created_at", table_name="trips")
    op.drop_index("ix_orders_store_id_placed_at", table_name="orders")
    op.drop_table("rider_proposals")
    op.drop_table("store_demand")
    op.drop_table("city_supply")
    op.drop_table("store_supply")
