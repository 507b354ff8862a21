"""What an order costs: fewer foreign keys, CHECKs and index entries on its way.

Revision: 0007
After: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# (table, column, what it names).  `darkstore verify` looks for orphans instead.
_FOREIGN_KEYS = (
    ("quotes", "user_id", "users", "id"),
    ("quotes", "store_id", "stores", "id"),
    ("orders", "user_id", "users", "id"),
    ("orders", "store_id", "stores", "id"),
    ("order_lines", "order_id", "orders", "id"),
    ("order_history", "order_id", "orders", "id"),
    ("reservation_lines", "order_id", "reservations", "order_id"),
    ("pick_task_lines", "pick_task_id", "pick_tasks", "id"),
)

# The trigger stock_movements_are_legal says the same.
_SIGNS = """CASE kind
    WHEN 'receipt' THEN on_hand_delta > 0 AND reserved_delta = 0 AND bagged_delta = 0
    WHEN 'reservation' THEN on_hand_delta = 0 AND reserved_delta > 0 AND bagged_delta = 0
    WHEN 'release' THEN on_hand_delta = 0 AND reserved_delta < 0 AND bagged_delta = 0
    WHEN 'expiry' THEN on_hand_delta = 0 AND reserved_delta < 0 AND bagged_delta = 0
    WHEN 'pick' THEN on_hand_delta < 0 AND reserved_delta = on_hand_delta
        AND bagged_delta = -on_hand_delta
    WHEN 'shortage' THEN on_hand_delta < 0 AND reserved_delta = on_hand_delta AND bagged_delta = 0
    WHEN 'handover' THEN on_hand_delta = 0 AND reserved_delta = 0 AND bagged_delta < 0
    WHEN 'return' THEN on_hand_delta > 0 AND reserved_delta = 0
        AND bagged_delta IN (0, -on_hand_delta)
    WHEN 'adjustment' THEN on_hand_delta <> 0 AND reserved_delta = 0 AND bagged_delta = 0
    WHEN 'count' THEN on_hand_delta <> 0 AND reserved_delta = 0 AND bagged_delta = 0
    WHEN 'waste' THEN on_hand_delta < 0 AND reserved_delta = 0 AND bagged_delta = 0
    WHEN 'transfer_out' THEN on_hand_delta < 0 AND reserved_delta = 0 AND bagged_delta = 0
    WHEN 'transfer_in' THEN on_hand_delta > 0 AND reserved_delta = 0 AND bagged_delta = 0
    ELSE false END"""
_GROUNDS = """CASE
    WHEN kind IN ('adjustment', 'waste') THEN reason IS NOT NULL
    WHEN kind IN ('count', 'transfer_out', 'transfer_in') THEN reference IS NOT NULL
    WHEN kind = 'receipt' THEN true
    ELSE order_id IS NOT NULL END"""


def upgrade() -> None:
    for table, column, target, _ in _FOREIGN_KEYS:
        op.drop_constraint(op.f(f"fk_{table}_{column}_{target}"), table, type_="foreignkey")
    for name in ("signs", "grounds", "lot"):
        op.drop_constraint(op.f(f"ck_stock_movements_{name}"), "stock_movements", type_="check")
    # An event is found by its stream; by its id only while it waits (ix_outbox_unpublished).
    op.drop_constraint(op.f("pk_outbox"), "outbox", type_="primary")
    op.execute(
        "ALTER TABLE outbox DROP CONSTRAINT uq_outbox_stream_seq,"
        " ADD CONSTRAINT pk_outbox PRIMARY KEY (stream, seq)"
    )
    op.create_index(
        "ix_outbox_backing_off",
        "outbox",
        ["stream", "seq"],
        postgresql_where=sa.text("published_at IS NULL AND next_attempt_at IS NOT NULL"),
    )
    op.execute("ALTER TABLE quotes SET (fillfactor = 50)")


def downgrade() -> None:
    op.execute("ALTER TABLE quotes RESET (fillfactor)")
    op.drop_index("ix_outbox_backing_off", table_name="outbox")
    op.execute(
        "ALTER TABLE outbox DROP CONSTRAINT pk_outbox, ADD CONSTRAINT pk_outbox PRIMARY KEY (id),"
        " ADD CONSTRAINT uq_outbox_stream_seq UNIQUE (stream, seq)"
    )
    for name, rule in (
        ("signs", _SIGNS),
        ("grounds", _GROUNDS),
        ("lot", "(lot_id IS NULL) = (on_hand_delta = 0)"),
    ):
        op.create_check_constraint(
            op.f(f"ck_stock_movements_{name}"),
            "stock_movements",
            sa.text(rule),
            # Movements of before revision 0002 named no lot.
            postgresql_not_valid=True,
        )
    for table, column, target, target_column in _FOREIGN_KEYS:
        op.create_foreign_key(
            op.f(f"fk_{table}_{column}_{target}"), table, target, [column], [target_column]
        )
