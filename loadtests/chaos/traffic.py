"""``python -m loadtests.chaos.traffic``: the simulator's city and the ruder clients, one process.

It knows the system by its address alone and may meet any fault.  Ends with one JSON object on the
last line of standard output: what the simulator counted, what the clients counted, which promises
were broken in front of them, and which requests were never answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from kit import log
from kit.clock import Clock
from loadtests.chaos import clients
from loadtests.chaos.clients import Crowd, Reserved
from loadtests.chaos.journal import Journal
from simulator.api import Api, Json, Session
from simulator.city import City, Run
from simulator.http_client import HttpClient, HttpFailure, Response
from simulator.tally import Tally

# A server answers or gives up within 15 s (its own deadline); beyond this nobody was going to.
ANSWER_TIMEOUT_S: Final = 20.0
DRAIN_MINUTES: Final = 25.0
# Real seconds after the last demand in which clients end their turns, and then the city its day;
# what is still on its way by then, because the machine is slow, stays where it is.
LAST_TURNS_S: Final = 150.0
LAST_DELIVERIES_S: Final = 150.0


class WatchedHttp(HttpClient):
    """Keeps when a request was given up on for want of an answer."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url, timeout_s=ANSWER_TIMEOUT_S)
        self.unanswered: list[dict[str, object]] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        started_s = time.time()
        try:
            return await super().request(method, path, headers=headers, body=body)
        except HttpFailure as failure:
            if str(failure) == "timeout":
                self.unanswered.append(
                    {"from_s": started_s, "to_s": time.time(), "what": f"{method} {path}"}
                )
            raise


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos.traffic")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--stream-url", required=True, help="of the gateway")
    parser.add_argument("--log-ins", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="real seconds of demand")
    parser.add_argument("--orders-per-hour", type=float, required=True, help="virtual hour")
    return parser.parse_args()


async def _main(options: argparse.Namespace) -> dict[str, Any]:
    log_ins: dict[str, Any] = orjson.loads(options.log_ins.read_bytes())
    rng = random.Random(f"{options.seed}:traffic")
    http = WatchedHttp(options.base_url)
    first_store = log_ins["stores"][0]["id"]
    reserved = await _reserve(http, first_store, rng)
    clock = (await Api(http, Clock(), Tally()).call("GET", "/v1/clock")).must()
    run = Run(
        base_url=options.base_url, city_id=log_ins["city"]["id"], log_ins=log_ins,
        seed=options.seed, minutes=options.seconds * clock["speed"] / 60.0,
        orders_per_hour=options.orders_per_hour, drain_minutes=DRAIN_MINUTES,
    )  # fmt: skip
    city = await City.open(run, http, {reserved.staple, reserved.hot, reserved.counted})
    ops = Session(city.world.api)
    await ops.log_in(log_ins["ops"]["email"], log_ins["ops"]["password"])
    crowd = Crowd(
        city.world, Journal(options.journal), city.world.stores[first_store], reserved, rng, ops
    )
    await _open_shop(crowd)
    async with asyncio.TaskGroup() as tasks:
        ending = asyncio.Event()
        day = tasks.create_task(city.run(ending))
        offices = [tasks.create_task(office) for office in _offices(crowd, options)]
        turns = [clients.buy] * clients.BUYERS
        turns += [clients.click_twice, clients.race_the_wallet, clients.count_stock, clients.flood]
        people = [tasks.create_task(clients.forever(crowd, turn)) for turn in turns]
        _say("traffic")
        await asyncio.sleep(options.seconds)
        crowd.stopping.set()
        _, late = await asyncio.wait(people, timeout=LAST_TURNS_S)
        crowd.counts["clients that never ended"] += len(late)
        for person in late:
            person.cancel()
        await asyncio.wait({day}, timeout=LAST_DELIVERIES_S)
        ending.set()
        await asyncio.wait({day})
        await clients.replay(crowd)
        for office in offices:
            office.cancel()
    await _close_shop(crowd)
    crowd.journal.close()
    return {
        "simulator": city.result(),
        "clients": dict(sorted(crowd.counts.items())),
        "wrong": crowd.wrong,
        "unanswered": http.unanswered,
    }


def _say(what: str) -> None:
    sys.stdout.write(orjson.dumps({"event": what}).decode() + "\n")
    sys.stdout.flush()


async def _reserve(http: HttpClient, store_id: str, rng: random.Random) -> Reserved:
    """Three products of the listing, by the seed."""
    api = Api(http, Clock(), Tally())
    page = (await api.call("GET", f"/v1/stores/{store_id}/products?limit=100")).must()
    in_stock = sorted(row["sku_id"] for row in page["items"] if row["available"] > 0)
    return Reserved(*rng.sample(in_stock, 3))


async def _open_shop(crowd: Crowd) -> None:
    """Enough of the staple for everybody, and what the counted product begins with."""
    path = f"/v1/ops/stores/{crowd.store.store_id}/stock/receive"
    body: Json = {"sku_id": crowd.reserved.staple, "quantity": clients.STAPLE_UNITS}
    (await crowd.manager.call("POST", path, body, key=clients.key("open"))).must()
    line = await _counted(crowd)
    crowd.journal.note("opening", sku_id=line["sku_id"], on_hand=line["on_hand"])


async def _close_shop(crowd: Crowd) -> None:
    line = await _counted(crowd)
    crowd.journal.note("closing", sku_id=line["sku_id"], on_hand=line["on_hand"])


async def _counted(crowd: Crowd) -> Json:
    return await clients.read_stock(crowd.manager, crowd.store.store_id, crowd.reserved.counted)


def _offices(crowd: Crowd, options: argparse.Namespace) -> list[Any]:
    """City ops and a store's manager at their screens, all of it through the gateway."""
    channels = [(crowd.ops, f"city:{crowd.world.city_id}")]
    channels += [
        (store.manager, f"store:{store.store_id}")
        for store in crowd.world.stores.values()
        if store.manager is not None
    ]
    return [
        clients.watch(crowd, session, options.stream_url, channel)
        for session, channel in channels
        for _ in range(2)
    ]


def main() -> int:
    options = _arguments()
    log.configure("WARNING", process="traffic")
    with contextlib.suppress(KeyboardInterrupt):
        result = uvloop.run(_main(options))
        sys.stdout.write(orjson.dumps(result).decode() + "\n")
        return 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
