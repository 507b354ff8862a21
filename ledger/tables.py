"""The ledger: accounts, transactions and their postings.  Rows are added, never changed."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    SmallInteger,
    Table,
    Text,
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
    Column("at", DateTime(timezone=True), nullable=False),
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
