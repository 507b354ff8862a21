"""Dispatch decisions, named parameter sets, and their comparison.

Revision: 0005
After: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.Text(collation="C")
_TIME = sa.DateTime(timezone=True)
_JSON = postgresql.JSONB(astext_type=sa.Text())
_TEXTS = postgresql.ARRAY(sa.Text())


def upgrade() -> None:
    op.create_table(
        "dispatch_decisions",
        sa.Column("id", _ID, nullable=False),
        sa.Column("city_id", _ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("recorded_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("parameter_set", _ID, nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.Column("riders", sa.Integer(), nullable=False),
        sa.Column("trips", sa.Integer(), nullable=False),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("file_offset", sa.BigInteger(), nullable=True),
        sa.Column("dropped", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatch_decisions")),
    )
    op.create_index("ix_dispatch_decisions_city_id_at", "dispatch_decisions", ["city_id", "at"])
    op.create_index("ix_dispatch_decisions_recorded_at", "dispatch_decisions", ["recorded_at"])
    op.create_table(
        "dispatch_explanations",
        sa.Column("order_id", _ID, nullable=False),
        sa.Column("decision_id", _ID, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("look_again_at", _TIME, nullable=True),
        sa.Column("rider_id", _ID, nullable=True),
        sa.Column("order_ids", _TEXTS, nullable=True),
        sa.Column("cost_terms", _JSON, nullable=True),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.Column("runner_up_rider_id", _ID, nullable=True),
        sa.Column("runner_up_cost", sa.Double(), nullable=True),
        sa.Column("pickup_at", _TIME, nullable=True),
        sa.Column("dropoff_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "outcome IN ('assigned', 'held', 'unassigned')",
            name=op.f("ck_dispatch_explanations_outcome"),
        ),
        sa.CheckConstraint(
            "(outcome = 'assigned') = (rider_id IS NOT NULL)",
            name=op.f("ck_dispatch_explanations_rider"),
        ),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["dispatch_decisions.id"],
            name=op.f("fk_dispatch_explanations_decision_id_dispatch_decisions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("order_id", "decision_id", name=op.f("pk_dispatch_explanations")),
    )
    op.create_index(
        op.f("ix_dispatch_explanations_decision_id"), "dispatch_explanations", ["decision_id"]
    )
    op.create_table(
        "dispatch_parameter_sets",
        sa.Column("city_id", _ID, nullable=False),
        sa.Column("name", _ID, nullable=False),
        sa.Column("overrides", _JSON, nullable=False),
        sa.Column("note", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("in_use", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("updated_by", _ID, nullable=False),
        sa.CheckConstraint(
            "name ~ '^[a-z][a-z0-9_-]{0,39}$' AND name <> 'default'",
            name=op.f("ck_dispatch_parameter_sets_name"),
        ),
        sa.ForeignKeyConstraint(
            ["city_id"], ["cities.id"], name=op.f("fk_dispatch_parameter_sets_city_id_cities")
        ),
        sa.PrimaryKeyConstraint("city_id", "name", name=op.f("pk_dispatch_parameter_sets")),
    )
    op.create_index(
        "uq_dispatch_parameter_sets_in_use",
        "dispatch_parameter_sets",
        ["city_id"],
        unique=True,
        postgresql_where=sa.text("in_use"),
    )
    op.create_table(
        "dispatch_experiments",
        sa.Column("id", _ID, nullable=False),
        sa.Column("city_id", _ID, nullable=False),
        sa.Column("control", _ID, nullable=False),
        sa.Column("treatment", _ID, nullable=False),
        sa.Column("control_overrides", _JSON, nullable=False),
        sa.Column("treatment_overrides", _JSON, nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("store_ids", _TEXTS, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("window_s", sa.Integer(), nullable=False),
        sa.Column("washout_s", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("started_by", _ID, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("ended_by", _ID, nullable=True),
        sa.CheckConstraint(
            "unit IN ('city', 'store', 'fixed')", name=op.f("ck_dispatch_experiments_unit")
        ),
        sa.CheckConstraint("control <> treatment", name=op.f("ck_dispatch_experiments_sets")),
        sa.CheckConstraint(
            "window_s BETWEEN 60 AND 86400", name=op.f("ck_dispatch_experiments_window_s")
        ),
        sa.CheckConstraint(
            "washout_s >= 0 AND washout_s < window_s",
            name=op.f("ck_dispatch_experiments_washout_s"),
        ),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (ended_by IS NULL)", name=op.f("ck_dispatch_experiments_ended")
        ),
        sa.ForeignKeyConstraint(
            ["city_id"], ["cities.id"], name=op.f("fk_dispatch_experiments_city_id_cities")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatch_experiments")),
    )
    op.create_index(op.f("ix_dispatch_experiments_city_id"), "dispatch_experiments", ["city_id"])
    op.create_index(
        "uq_dispatch_experiments_running",
        "dispatch_experiments",
        ["city_id"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.add_column(
        "trips",
        sa.Column("parameter_set", _ID, server_default=sa.text("'default'"), nullable=False),
    )
    op.add_column("trips", sa.Column("decision_id", _ID, nullable=True))


def downgrade() -> None:
    op.drop_column("trips", "decision_id")
    op.drop_column("trips", "parameter_set")
    op.drop_table("dispatch_experiments")
    op.drop_table("dispatch_parameter_sets")
    op.drop_table("dispatch_explanations")
    op.drop_table("dispatch_decisions")
