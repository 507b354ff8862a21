"""The ledger: accounts, transactions and their postings, whose rows are added and never changed.

Wallets are the customers' side of one account of it: a projection, with what open orders hold.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from kit.db import id_type, metadata

ledger_accounts = Table(
    "ledger_accounts",
    metadata,
    Column("code", id_type(), primary_key=True),
    Column("title", Text, nullable=False),
    Column("kind", Text, nullable=False),
)

ledger_transactions = Table(
    "ledger_transactions",
    metadata,
    Column("id", id_type(), primary_key=True),
    # What happened, once: 'capture:ord_…'.  Posting it again does nothing.
    Column("key", id_type(), nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("order_id", id_type(), index=True),
    Column("currency", id_type(), nullable=False),
    # When it happened, and the accounting day (UTC) that it counts for: later, if that was closed.
    Column("at", DateTime(timezone=True), nullable=False),
    Column("day", Date, nullable=False, server_default=text("CURRENT_DATE")),
    # How many postings it has.
    Column("size", SmallInteger, nullable=False, server_default=text("0")),
    Index("ix_ledger_transactions_day", "day"),
)

ledger_postings = Table(
    "ledger_postings",
    metadata,
    Column("transaction_id", id_type(), ForeignKey("ledger_transactions.id"), primary_key=True),
    Column("n", SmallInteger, primary_key=True),
    Column("account", id_type(), ForeignKey("ledger_accounts.code"), nullable=False),
    # Whose share of the account it is: a rider, a store, an order.
    Column("party", id_type()),
    # Debits are positive, credits negative.
    Column("amount_minor", BigInteger, nullable=False),
    CheckConstraint("amount_minor <> 0", name="amount"),
    Index("ix_ledger_postings_account_party", "account", "party"),
)

# What the account 'wallet' says of each customer, kept by a trigger on its postings.
wallets = Table(
    "wallets",
    metadata,
    Column("user_id", id_type(), primary_key=True),
    Column("currency", id_type(), primary_key=True),
    Column("balance_minor", BigInteger, nullable=False),
    # Set aside by orders that are not delivered yet.
    Column("held_minor", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("held_minor BETWEEN 0 AND balance_minor", name="held"),
)

# A row as long as an order holds money; it goes when the money is spent or free again.
wallet_holds = Table(
    "wallet_holds",
    metadata,
    Column("order_id", id_type(), primary_key=True),
    Column("user_id", id_type(), nullable=False),
    Column("currency", id_type(), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    CheckConstraint("amount_minor > 0", name="amount"),
    Index("ix_wallet_holds_user_id_currency", "user_id", "currency"),
)

# What the account 'rider_cash' says of each rider, kept by a trigger on its postings.
rider_cash = Table(
    "rider_cash",
    metadata,
    Column("rider_id", id_type(), primary_key=True),
    Column("currency", id_type(), primary_key=True),
    Column("cash_minor", BigInteger, nullable=False),
    CheckConstraint("cash_minor >= 0", name="cash"),
)

rider_deposits = Table(
    "rider_deposits",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("rider_id", id_type(), nullable=False, index=True),
    Column("store_id", id_type()),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", id_type(), nullable=False),
    Column("reference", Text, nullable=False),
    Column("actor", id_type(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("transaction_key", id_type(), nullable=False),
    CheckConstraint("amount_minor > 0", name="amount"),
)

# Days that are closed: nothing is posted to them, or to any day before them, any more.
ledger_days = Table(
    "ledger_days",
    metadata,
    Column("day", Date, primary_key=True),
    Column("transactions", Integer, nullable=False),
    Column("closed_at", DateTime(timezone=True), nullable=False),
    Column("closed_by", id_type(), nullable=False),
)

# Of each closed day, what moved, and the balance at its end; party '' for none.
ledger_day_balances = Table(
    "ledger_day_balances",
    metadata,
    Column("currency", id_type(), primary_key=True),
    Column("account", id_type(), primary_key=True),
    Column("party", id_type(), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("moved_minor", BigInteger, nullable=False),
    Column("balance_minor", BigInteger, nullable=False),
    Index("ix_ledger_day_balances_day", "day"),
)

# Paying riders what they are owed at the end of a closed day: a run, and a line for each of them.
settlement_runs = Table(
    "settlement_runs",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("until_day", Date, nullable=False, unique=True),
    Column("actor", id_type(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

settlement_lines = Table(
    "settlement_lines",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("run_id", id_type(), ForeignKey("settlement_runs.id"), nullable=False),
    Column("rider_id", id_type(), nullable=False),
    Column("currency", id_type(), nullable=False),
    # The first day that it pays for, and the last.
    Column("from_day", Date, nullable=False),
    Column("until_day", Date, nullable=False),
    Column("pay_minor", BigInteger, nullable=False),
    Column("tips_minor", BigInteger, nullable=False),
    Column("incentives_minor", BigInteger, nullable=False),
    # Cash that the rider keeps as part of it, and what is paid out.
    Column("cash_minor", BigInteger, nullable=False),
    Column("paid_minor", BigInteger, nullable=False),
    Column("transaction_key", id_type(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("rider_id", "currency", "until_day"),
    Index("ix_settlement_lines_run_id", "run_id"),
    CheckConstraint(
        "cash_minor >= 0 AND paid_minor >= 0"
        " AND cash_minor + paid_minor = pay_minor + tips_minor + incentives_minor",
        name="adds_up",
    ),
)
