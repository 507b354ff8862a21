"""Every query on the provider's SQLite file.  Used from one thread, by one process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from simulator.provider.faults import Control
from simulator.provider.model import SANDBOX, Dispute, Operation, OperationKind, Payment

_LATER_COLUMNS = (
    ("payments", "wire", "sandbox"), ("payments", "metadata", "{}"),
    ("operations", "metadata", "{}"),
)  # fmt: skip

LOCK_WAIT_S = 1.5  # a killed predecessor may hold the file for a moment


class StoreUnusable(Exception):
    """The file cannot be a store: another provider has it open, or it cannot be opened at all."""


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What is remembered under an idempotency key; no ``answer`` yet while it is processed."""

    fingerprint: str
    payment_id: str | None
    answer: Payment | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One copy of one event; ``attempts`` counts those made before."""

    delivery_id: int
    event_id: str
    body: bytes
    attempts: int
    wire: str


class Store:
    """The file at ``path``, created when missing.  Raises :class:`StoreUnusable`."""

    def __init__(self, path: Path, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
        try:
            self._connection = sqlite3.connect(path, timeout=lock_wait_s, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise StoreUnusable(f"{path} cannot be opened: {error}") from error
        self._connection.row_factory = sqlite3.Row
        try:
            # Exclusive, so that two providers never pay out of one book.  WAL with NORMAL keeps
            # every commit through a kill -9; only a power cut could take the last of them.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            schema = resources.files("simulator.provider").joinpath("schema.sql")
            self._connection.executescript(schema.read_text(encoding="utf-8"))
            self._add_missing_columns()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            in_use = error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            problem = "is in use by another provider" if in_use else f"is no store: {error}"
            raise StoreUnusable(f"{path} {problem}") from error

    def _add_missing_columns(self) -> None:
        """A file of an older provider gets what came later."""
        for table, column, default in _LATER_COLUMNS:
            known = {row["name"] for row in self._connection.execute(f"PRAGMA table_info({table})")}
            if column not in known:
                self._connection.execute(
                    f"ALTER TABLE {table} ADD COLUMN {column} TEXT NOT NULL DEFAULT '{default}'"
                )

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; a caller's exception rolls back and goes on."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    # Requests

    def request(self, key: str) -> StoredRequest | None:
        row = self._connection.execute(
            "SELECT fingerprint, payment_id, answer FROM requests WHERE idempotency_key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        answer = None if row[2] is None else msgspec.json.decode(row[2], type=Payment)
        return StoredRequest(row[0], row[1], answer)

    def remember(
        self, key: str, fingerprint: str, payment_id: str | None, answer: Payment | None
    ) -> None:
        self._connection.execute(
            "INSERT INTO requests (idempotency_key, fingerprint, payment_id, answer)"
            " VALUES (?, ?, ?, ?) ON CONFLICT (idempotency_key) DO UPDATE"
            " SET payment_id = excluded.payment_id, answer = excluded.answer",
            (key, fingerprint, payment_id, None if answer is None else msgspec.json.encode(answer)),
        )

    def remember_answer(self, key: str, answer: Payment) -> None:
        self._connection.execute(
            "UPDATE requests SET answer = ? WHERE idempotency_key = ?",
            (msgspec.json.encode(answer), key),
        )

    # Payments and operations

    def payment(self, payment_id: str) -> Payment | None:
        row = self._connection.execute(
            "SELECT * FROM payments WHERE payment_id = ?", (payment_id,)
        ).fetchone()
        if row is None:
            return None
        operations = self._connection.execute(
            "SELECT * FROM operations WHERE payment_id = ? ORDER BY seq", (payment_id,)
        ).fetchall()
        disputes = self._connection.execute(
            "SELECT * FROM disputes WHERE payment_id = ? ORDER BY rowid", (payment_id,)
        ).fetchall()
        fields = {
            **_fields(row),
            "operations": [_fields(operation) for operation in operations],
            "disputes": [dict(dispute) for dispute in disputes],
        }
        # Not strict, because SQLite keeps a boolean as 0 or 1.
        return msgspec.convert(fields, Payment, strict=False)

    def payments(
        self, wire: str, *, order: str | None = None, from_s: float = 0.0, to_s: float = 1e12,
        after: str | None = None, skip: int = 0, limit: int = 100,
    ) -> list[Payment]:  # fmt: skip
        """A wire's payments, newest first: those made after ``after``'s page, of one order, …"""
        rows = self._connection.execute(
            "SELECT payment_id FROM payments WHERE wire = :wire"
            " AND (:order IS NULL OR order_reference = :order)"
            " AND created_at_s BETWEEN :from_s AND :to_s"
            " AND (:after IS NULL"
            "      OR rowid < (SELECT rowid FROM payments WHERE payment_id = :after))"
            " ORDER BY rowid DESC LIMIT :limit OFFSET :skip",
            {
                "wire": wire, "order": order, "from_s": from_s, "to_s": to_s, "after": after,
                "skip": skip, "limit": limit,
            },
        ).fetchall()  # fmt: skip
        found = (self.payment(row[0]) for row in rows)
        return [payment for payment in found if payment is not None]

    def payment_id_of(self, key: str) -> str | None:
        """The payment that was made, or operated upon, under this idempotency key."""
        row = self._connection.execute(
            "SELECT payment_id FROM payments WHERE idempotency_key = :key"
            " UNION SELECT payment_id FROM operations WHERE idempotency_key = :key",
            {"key": key},
        ).fetchone()
        return None if row is None else str(row[0])

    def insert_payment(self, payment: Payment) -> None:
        self._connection.execute(
            "INSERT INTO payments VALUES (:payment_id, :idempotency_key, :order_reference,"
            " :method, :currency, :amount_minor, :captured_minor, :refunded_minor, :status, :code,"
            " :version, :created_at_s, :planned_status, :settle_at_s, :duplicates, :wire,"
            " :metadata)",
            {**msgspec.to_builtins(payment), "metadata": _text(payment.metadata)},
        )

    def update_payment(self, payment: Payment) -> None:
        self._connection.execute(
            "UPDATE payments SET captured_minor = ?, refunded_minor = ?, status = ?, version = ?,"
            " metadata = ? WHERE payment_id = ?",
            (
                payment.captured_minor,
                payment.refunded_minor,
                payment.status,
                payment.version,
                _text(payment.metadata),
                payment.payment_id,
            ),
        )

    def unsettled(self, now_s: float) -> Sequence[str]:
        """Payments whose processing should have ended by now."""
        rows = self._connection.execute(
            "SELECT payment_id FROM payments WHERE status = 'processing' AND settle_at_s <= ?",
            (now_s,),
        ).fetchall()
        return [row[0] for row in rows]

    def add_operation(
        self, payment: Payment, operation_id: str, kind: OperationKind, amount: int, key: str,
        at_s: float, metadata: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._connection.execute(
            "INSERT INTO operations (operation_id, payment_id, kind, amount_minor, currency,"
            " order_reference, idempotency_key, at_s, metadata)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                operation_id,
                payment.payment_id,
                kind,
                amount,
                payment.currency,
                payment.order_reference,
                key,
                at_s,
                _text(metadata or {}),
            ),
        )

    def operations(self, after_seq: int, limit: int, wire: str = SANDBOX) -> tuple[Operation, ...]:
        """The log of a wire, oldest first."""
        rows = self._connection.execute(
            "SELECT operations.* FROM operations JOIN payments USING (payment_id)"
            " WHERE seq > ? AND wire = ? ORDER BY seq LIMIT ?",
            (after_seq, wire, limit),
        ).fetchall()
        return tuple(msgspec.convert(_fields(row), Operation) for row in rows)

    def newest_operations(
        self, wire: str, kinds: Sequence[OperationKind], *, from_s: float = 0.0,
        to_s: float = 1e12, after: str | None = None, skip: int = 0, limit: int = 100,
    ) -> list[Operation]:  # fmt: skip
        """The log of a wire, newest first; ``after`` is the last operation of the page before."""
        rows = self._connection.execute(
            "SELECT operations.* FROM operations JOIN payments USING (payment_id)"
            " WHERE wire = :wire AND kind IN (SELECT value FROM json_each(:kinds))"
            " AND at_s BETWEEN :from_s AND :to_s"
            " AND (:after IS NULL"
            "      OR seq < (SELECT seq FROM operations WHERE operation_id = :after))"
            " ORDER BY seq DESC LIMIT :limit OFFSET :skip",
            {
                "wire": wire, "kinds": _text(kinds), "from_s": from_s, "to_s": to_s,
                "after": after, "skip": skip, "limit": limit,
            },
        ).fetchall()  # fmt: skip
        return [msgspec.convert(_fields(row), Operation) for row in rows]

    def set_operation_amount(self, operation: Operation, amount_minor: int) -> None:
        """Falsify the log; none at all takes the operation out of it."""
        if amount_minor:
            self._connection.execute(
                "UPDATE operations SET amount_minor = ? WHERE seq = ?",
                (amount_minor, operation.seq),
            )
        else:
            self._connection.execute("DELETE FROM operations WHERE seq = ?", (operation.seq,))

    # Disputes, and what a wire keeps for itself

    def put_dispute(self, dispute: Dispute) -> None:
        self._connection.execute(
            "INSERT INTO disputes VALUES (:dispute_id, :payment_id, :amount_minor, :reason,"
            " :status, :opened_at_s)"
            " ON CONFLICT (dispute_id) DO UPDATE SET status = excluded.status",
            msgspec.to_builtins(dispute),
        )

    def dispute(self, dispute_id: str) -> Dispute | None:
        row = self._connection.execute(
            "SELECT * FROM disputes WHERE dispute_id = ?", (dispute_id,)
        ).fetchone()
        return None if row is None else msgspec.convert(dict(row), Dispute)

    def put_document(self, wire: str, document_id: str, name: str, body: object) -> None:
        self._connection.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?)", (document_id, wire, name, _text(body))
        )

    def documents(
        self, wire: str, *, document_id: str | None = None, name: str | None = None
    ) -> list[dict[str, Any]]:
        """By id or by name, newest first."""
        rows = self._connection.execute(
            "SELECT body FROM documents WHERE wire = ? AND (document_id = ? OR name = ?)"
            " ORDER BY rowid DESC LIMIT 100",
            (wire, document_id, name),
        ).fetchall()
        return [msgspec.json.decode(row[0]) for row in rows]

    # Webhooks

    def enqueue(
        self, event_id: str, payment_id: str, body: bytes, due_at_s: float, *, late: bool = False
    ) -> None:
        self._connection.execute(
            "INSERT INTO deliveries (event_id, payment_id, body, late, due_at_s)"
            " VALUES (?, ?, ?, ?, ?)",
            (event_id, payment_id, body, late, due_at_s),
        )

    def hasten_late_copies(self, payment_id: str, due_at_s: float) -> None:
        """Send held-back copies of older events soon, now that a newer event exists."""
        self._connection.execute(
            "UPDATE deliveries SET due_at_s = min(due_at_s, ?)"
            " WHERE payment_id = ? AND state = 'pending' AND late = 1",
            (due_at_s, payment_id),
        )

    def due(self, now_s: float, limit: int) -> Sequence[Delivery]:
        rows = self._connection.execute(
            "SELECT delivery_id, event_id, body, attempts, wire"
            " FROM deliveries JOIN payments USING (payment_id)"
            " WHERE state = 'pending' AND due_at_s <= ? ORDER BY due_at_s, delivery_id LIMIT ?",
            (now_s, limit),
        ).fetchall()
        return [Delivery(*row) for row in rows]

    def next_due_s(self) -> float | None:
        row = self._connection.execute(
            "SELECT min(due_at_s) FROM deliveries WHERE state = 'pending'"
        ).fetchone()
        return None if row is None else row[0]

    def delivered(self, delivery_id: int) -> None:
        self._connection.execute(
            "UPDATE deliveries SET state = 'delivered', attempts = attempts + 1"
            " WHERE delivery_id = ?",
            (delivery_id,),
        )

    def not_delivered(self, delivery_id: int, retry_at_s: float | None) -> None:
        """Count a failed attempt; without a time for the next one the copy is dead."""
        self._connection.execute(
            "UPDATE deliveries SET attempts = attempts + 1,"
            " state = CASE WHEN :at IS NULL THEN 'dead' ELSE state END,"
            " due_at_s = coalesce(:at, due_at_s) WHERE delivery_id = :id",
            {"at": retry_at_s, "id": delivery_id},
        )

    def delivery_counts(self) -> dict[str, int]:
        rows = self._connection.execute("SELECT state, count(*) FROM deliveries GROUP BY state")
        return dict(rows.fetchall())

    # Control

    def control(self) -> Control:
        row = self._connection.execute("SELECT settings FROM control").fetchone()
        return Control() if row is None else Control.model_validate_json(row[0])

    def set_control(self, control: Control) -> None:
        self._connection.execute(
            "INSERT INTO control (one, settings) VALUES (1, ?)"
            " ON CONFLICT (one) DO UPDATE SET settings = excluded.settings",
            (control.model_dump_json(),),
        )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _fields(row: sqlite3.Row) -> dict[str, Any]:
    """A row whose metadata is JSON; SQLite's values are of many types."""
    return {**dict(row), "metadata": msgspec.json.decode(row["metadata"])}
