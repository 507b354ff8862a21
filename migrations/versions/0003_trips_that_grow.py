"""Trips that grow.

Revision: 0003
After: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.add_column(
        "trips",
        sa.Column("empty_m", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.create_index(
        op.f("ix_trips_ended_at"),
        "trips",
        ["ended_at"],
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.add_column("trip_stops", sa.Column("position", sa.SmallInteger(), nullable=True))
    op.execute("UPDATE trip_stops SET position = n")
    op.alter_column("trip_stops", "position", nullable=False)
    op.create_unique_constraint(
        op.f("uq_trip_stops_trip_id_position"),
        "trip_stops",
        ["trip_id", "position"],
        deferrable=True,
        initially="IMMEDIATE",
    )
    op.add_column(
        "stores",
        sa.Column("dispatch_part", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.create_check_constraint(op.f("ck_stores_dispatch_part"), "stores", "dispatch_part >= 0")
    op.add_column("dispatch_leases", sa.Column("partition_id", _ID, nullable=True))
    op.execute("UPDATE dispatch_leases SET partition_id = city_id")
    op.alter_column("dispatch_leases", "partition_id", nullable=False)
    op.drop_constraint(op.f("pk_dispatch_leases"), "dispatch_leases", type_="primary")
    op.create_primary_key(op.f("pk_dispatch_leases"), "dispatch_leases", ["partition_id"])
    op.create_index(op.f("ix_dispatch_leases_city_id"), "dispatch_leases", ["city_id"])
    op.create_table(
        "dispatch_figures",
        sa.Column("partition_id", _ID, nullable=False),
        sa.Column("city_id", _ID, nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decision_buckets", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("decision_s", sa.Double(), nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("orders_held", sa.Integer(), nullable=False),
        sa.Column("orders_unassigned", sa.Integer(), nullable=False),
        sa.Column("riders_missing", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["city_id"], ["cities.id"], name=op.f("fk_dispatch_figures_city_id_cities")
        ),
        sa.PrimaryKeyConstraint("partition_id", name=op.f("pk_dispatch_figures")),
    )
    op.create_index(op.f("ix_dispatch_figures_city_id"), "dispatch_figures", ["city_id"])


def downgrade() -> None:
    op.drop_table("dispatch_figures")
    # Only the lease of a whole city has a row in the schema before.
    op.execute("DELETE FROM dispatch_leases WHERE partition_id <> city_id")
    op.drop_index(op.f("ix_dispatch_leases_city_id"), table_name="dispatch_leases")
    op.drop_constraint(op.f("pk_dispatch_leases"), "dispatch_leases", type_="primary")
    op.create_primary_key(op.f("pk_dispatch_leases"), "dispatch_leases", ["city_id"])
    op.drop_column("dispatch_leases", "partition_id")
    op.drop_constraint(op.f("ck_stores_dispatch_part"), "stores", type_="check")
    op.drop_column("stores", "dispatch_part")
    op.drop_constraint(op.f("uq_trip_stops_trip_id_position"), "trip_stops", type_="unique")
    # Before, the number of a stop was its place in the ride.
    op.execute(
        "UPDATE trip_stops s SET n = s.n + 1000 WHERE EXISTS (SELECT 1 FROM trip_stops o"
        " WHERE o.trip_id = s.trip_id AND o.n <> o.position)"
    )
    op.execute("UPDATE trip_stops SET n = position WHERE n > 1000")
    op.drop_column("trip_stops", "position")
    op.drop_index(op.f("ix_trips_ended_at"), table_name="trips")
    op.drop_column("trips", "empty_m")
