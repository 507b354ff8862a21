"""The provider's engine over a store in memory, with a clock of the test's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from simulator.provider.engine import Authorisation, Engine
from simulator.provider.faults import Control
from simulator.provider.model import Method, OperationKind, Payment, PaymentStatus
from simulator.provider.store import Store, StoreUnusable


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(Path(":memory:"))
    yield store
    store.close()


class Clock:
    """Seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def render(event_id: str, event_type: str, key: str, payment: Payment) -> bytes:
    return event_type.removeprefix("payment.").encode()


def wanted(token: str = "tok_ok") -> Authorisation:
    return Authorisation("ord_1", Method.CARD, "INR", 1_000, token)


def arrivals(store: Store) -> list[str]:
    return [delivery.body.decode() for delivery in store.due(now_s=2_000, limit=10)]


def test_duplicates_of_a_prompt_capture_are_out_of_order(store: Store) -> None:
    """The capture overtakes the held authorisation; a stale copy comes after it; each twice."""
    clock = Clock()
    engine = Engine(store, render, now_s=clock)
    made = engine.authorise("a", "f", wanted("tok_duplicate_webhook")).payment
    clock.now_s += 0.5
    engine.operate(OperationKind.CAPTURE, "c", "f", made.payment_id, None)
    assert arrivals(store) == ["captured", "authorised", "authorised", "captured"]


def test_late_copy_waits_for_a_newer_event(store: Store) -> None:
    """Where the capture comes later than the first copy, the second one still arrives after it."""
    clock = Clock()
    engine = Engine(store, render, now_s=clock)
    made = engine.authorise("a", "f", wanted("tok_duplicate_webhook")).payment
    clock.now_s += 10
    engine.operate(OperationKind.CAPTURE, "c", "f", made.payment_id, None)
    assert arrivals(store) == ["authorised", "captured", "authorised", "captured"]


def test_ordinary_payment_is_told_once_a_change(store: Store) -> None:
    """Without the fault each change makes one delivery, due at once."""
    engine = Engine(store, render, now_s=Clock())
    made = engine.authorise("a", "f", wanted()).payment
    engine.operate(OperationKind.VOID, "v", "f", made.payment_id, None)
    assert [d.body for d in store.due(1_000, 10)] == [b"authorised", b"voided"]


def test_transaction_that_breaks_leaves_nothing(store: Store) -> None:
    """A payment whose event cannot be written was never made, and its key is free."""

    def broken(event_id: str, event_type: str, key: str, payment: Payment) -> bytes:
        raise RuntimeError("no event")

    with pytest.raises(RuntimeError, match="no event"):
        Engine(store, broken, now_s=Clock()).authorise("a", "f", wanted())
    engine = Engine(store, render, now_s=Clock())
    assert engine.find("a") is None
    assert not engine.authorise("a", "f", wanted()).replayed


def test_processing_ends_when_its_time_has_come(store: Store) -> None:
    """A slow payment stays in processing for its eight seconds, whoever looks after it."""
    clock = Clock()
    engine = Engine(store, render, now_s=clock)
    made = engine.authorise("a", "f", wanted("tok_slow"))
    assert (made.payment.status, made.wait_s) == (PaymentStatus.PROCESSING, 8.0)
    clock.now_s += 7.9
    assert engine.settle_due() == 0
    clock.now_s += 0.2
    assert Engine(store, render, now_s=clock).settle_due() == 1
    assert engine.payment(made.payment.payment_id).status is PaymentStatus.AUTHORISED


def test_control_outlives_a_restart(store: Store) -> None:
    """Faults that were set are still set for the next engine over the store."""
    Engine(store, None).set_control(Control(decline_rate=0.5, seed=3))
    assert Engine(store, None).control == Control(decline_rate=0.5, seed=3)


def test_two_providers_never_share_a_store(tmp_path: Path) -> None:
    """A second one is told so instead of paying out of the same book; later it may have it."""
    path = tmp_path / "p.sqlite"
    first = Store(path)
    Engine(first, None).authorise("a", "f", wanted())
    with pytest.raises(StoreUnusable, match="in use by another provider"):
        Store(path, lock_wait_s=0)
    first.close()
    second = Store(path, lock_wait_s=0)
    assert Engine(second, None).find("a") is not None
    second.close()


def test_file_that_cannot_be_a_store_is_said_so(tmp_path: Path) -> None:
    """No such folder, or a file of something else: one sentence each."""
    with pytest.raises(StoreUnusable, match="cannot be opened"):
        Store(tmp_path / "missing" / "p.sqlite")
    other = tmp_path / "other.txt"
    other.write_text("nothing of the kind " * 100)
    with pytest.raises(StoreUnusable, match="is no store"):
        Store(other)


def test_store_of_an_older_provider_is_taken_over(tmp_path: Path) -> None:
    """A file from before there were other wires opens; its payments are on the own one."""
    path = tmp_path / "p.sqlite"
    store = Store(path)
    Engine(store, None).authorise("a", "f", wanted())
    store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, column in (
            ("payments", "wire"), ("payments", "metadata"), ("operations", "metadata"),
        ):  # fmt: skip
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    store = Store(path)
    found = Engine(store, None).find("a")
    assert found is not None
    assert (found.wire, found.metadata, len(found.operations)) == ("sandbox", {}, 1)
    assert len(store.operations(0, 10)) == 1
    store.close()
