"""Every query on the provider's SQLite file.  Used from one thread, by one process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec

from simulator.provider.faults import Control
from simulator.provider.model import Operation, OperationKind, Payment

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
        except sqlite3.DatabaseError as error:
            self._connection.close()
            in_use = error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            problem = "is in use by another provider" if in_use else f"is no store: {error}"
            raise StoreUnusable(f"{path} {problem}") from error

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
        fields = {**dict(row), "operations": [dict(operation) for operation in operations]}
        # Not strict, because SQLite keeps a boolean as 0 or 1.
        return msgspec.convert(fields, Payment, strict=False)

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
            " :version, :created_at_s, :planned_status, :settle_at_s, :duplicates)",
            msgspec.to_builtins(payment),
        )

    def update_payment(self, payment: Payment) -> None:
        self._connection.execute(
            "UPDATE payments SET captured_minor = ?, refunded_minor = ?, status = ?, version = ?"
            " WHERE payment_id = ?",
            (
                payment.captured_minor,
                payment.refunded_minor,
                payment.status,
                payment.version,
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
        at_s: float,
    ) -> None:  # fmt: skip
        self._connection.execute(
            "INSERT INTO operations (operation_id, payment_id, kind, amount_minor, currency,"
            " order_reference, idempotency_key, at_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                operation_id,
                payment.payment_id,
                kind,
                amount,
                payment.currency,
                payment.order_reference,
                key,
                at_s,
            ),
        )

    def operations(self, after_seq: int, limit: int) -> tuple[Operation, ...]:
        rows = self._connection.execute(
            "SELECT * FROM operations WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)
        ).fetchall()
        return tuple(msgspec.convert(dict(row), Operation) for row in rows)

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
            "SELECT delivery_id, event_id, body, attempts FROM deliveries"
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
