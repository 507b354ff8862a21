"""The disk behind checkout: what it has taken survives, and what does not fit is refused."""

from __future__ import annotations

import asyncio
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kit.idempotency import KeyReused
from kit.ids import new_id
from orders.checkout import CheckoutRequest
from orders.model import PaymentMethod, Substitution
from orders.spool import CheckoutSpool, QueuedCheckout, SpoolFull, SpoolSettings

NOON = datetime(2031, 5, 1, 12, 0, tzinfo=UTC)


def make_entry(key: str | None = None, user_id: str = "usr_1") -> QueuedCheckout:
    request = CheckoutRequest(
        user_id=user_id, key=key or new_id("key"), body_hash=b"\x00\xffhash", quote_id="quo_1",
        method=PaymentMethod.CARD, token="tok_ok", substitution=Substitution.ASK, tip_minor=500,
        tokens={"stripe": "pm_1"},
    )  # fmt: skip
    return QueuedCheckout(request.order_id, NOON, request)


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[CheckoutSpool]:
    spool = await CheckoutSpool.open(tmp_path / "spool", SpoolSettings())
    yield spool
    await spool.close()


async def test_it_gives_back_what_it_took_in_order(spool: CheckoutSpool) -> None:
    """The whole request, oldest first; a removed one is gone."""
    entries = [make_entry() for _ in range(5)]
    for entry in entries:
        await spool.add(entry)
    assert await spool.waiting(3) == entries[:3]
    assert await spool.find(entries[4].order_id) == entries[4]
    await spool.remove(entries[0].order_id)
    assert (await spool.count()).waiting == 4
    assert await spool.find(entries[0].order_id) is None


async def test_one_key_is_one_checkout(spool: CheckoutSpool) -> None:
    """Fifty at once with one key: the first one's id for all; another body is refused."""
    first = make_entry("key-1")
    again = [replace(first, order_id=new_id("ord")) for _ in range(50)]
    kept = await asyncio.gather(*(spool.add(entry) for entry in [first, *again]))
    assert {entry.order_id for entry in kept} == {first.order_id}
    other = replace(first.request, body_hash=b"another")
    with pytest.raises(KeyReused):
        await spool.add(QueuedCheckout(new_id("ord"), NOON, other))
    assert (await spool.add(make_entry("key-1", "usr_2"))).request.user_id == "usr_2"
    assert (await spool.count()).waiting == 2


async def test_it_is_bounded_in_rows(tmp_path: Path) -> None:
    """What does not fit is told to come back; a repeat of what is kept still gets its answer."""
    spool = await CheckoutSpool.open(tmp_path, SpoolSettings(max_waiting=2))
    first = await spool.add(make_entry("key-1"))
    await spool.add(make_entry())
    with pytest.raises(SpoolFull) as refusal:
        await spool.add(make_entry())
    assert refusal.value.retry_after_s > 0
    assert await spool.add(replace(first, order_id=new_id("ord"))) == first
    await spool.close()


async def test_it_is_bounded_in_bytes(tmp_path: Path) -> None:
    """A full file refuses, keeps what it has, and takes more once some is gone."""
    spool = await CheckoutSpool.open(tmp_path, SpoolSettings(max_bytes=64 * 1024))
    taken: list[QueuedCheckout] = []

    async def fill() -> None:
        while len(taken) < 1_000:
            taken.append(await spool.add(make_entry()))

    with pytest.raises(SpoolFull):
        await fill()
    assert 10 < len(taken) < 1_000
    assert await spool.waiting(1_000) == taken
    for entry in taken[:20]:
        await spool.remove(entry.order_id)
    await spool.add(make_entry())
    await spool.close()


async def test_nobody_else_may_read_it(tmp_path: Path, spool: CheckoutSpool) -> None:
    """It holds payment tokens: folder and files are their owner's alone."""
    await spool.add(make_entry())
    folder = tmp_path / "spool"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file.name


ADD_AND_DIE = """
import asyncio, sys
from pathlib import Path
from orders.spool import CheckoutSpool, SpoolSettings
from tests.unit.test_checkout_spool import make_entry

async def main():
    spool = await CheckoutSpool.open(Path(sys.argv[1]), SpoolSettings())
    while True:
        entry = await spool.add(make_entry())
        print(entry.order_id, flush=True)

asyncio.run(main())
"""


async def test_what_was_taken_survives_a_kill(tmp_path: Path) -> None:
    """A process that is killed while it takes checkouts leaves each one that it had confirmed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ADD_AND_DIE, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline() for _ in range(20)]
    child.kill()
    lines += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    told = [line.decode().strip() for line in lines if line.endswith(b"\n")]
    spool = await CheckoutSpool.open(tmp_path, SpoolSettings())
    kept = {entry.order_id for entry in await spool.waiting(100_000)}
    await spool.close()
    assert len(told) >= 20
    assert set(told) <= kept
