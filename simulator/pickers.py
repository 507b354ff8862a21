"""Pickers: they watch the queue, claim, walk the bins, run short, pack, and serve the counter."""

from __future__ import annotations

import asyncio
import math
import secrets
from typing import Any, Final

from simulator import substitutes
from simulator.api import Json, Refused, Reply, Session, Unreachable
from simulator.stream import Stream, Watch
from simulator.world import StorePlace, World

# Virtual seconds; the means are those that dispatch expects (a walk, a line, a unit).
_TURNS_ROUND_S: Final = (0.5, 6.0)
_FIRST_WALK_S: Final = (15.0, 35.0)
_LINE_S: Final = (6.0, 14.0)
_UNIT_S: Final = (1.0, 3.0)
_PACK_S: Final = (15.0, 30.0)
_HANDOVER_S: Final = (5.0, 15.0)
_LOOKS_AROUND_S: Final = 60.0
_TRIES_AGAIN_S: Final = 20.0

# Longer than any customer is asked for.
_ANSWERS_WAIT_S: Final = 300.0

_SHORT_SHARE: Final = 0.015
_RELEASE_SHARE: Final = 0.01
_UNITS_A_BAG: Final = 8


class Picker:
    """One picker of one store."""

    def __init__(self, world: World, store: StorePlace, email: str, password: str) -> None:
        self._world = world
        self._store = store
        self._email = email
        self._password = password
        self._rng = world.rng("picker", email)
        self._session = Session(world.api)
        self._wake = asyncio.Event()
        # Open pick tasks of the store by id, as this picker's tablet shows them.
        self._tasks: dict[str, Json] = {}
        self._not_before: dict[str, float] = {}
        store.counter.listen(self._wake)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._session.log_in(self._email, self._password)
        watch = Watch(f"store:{self._store.store_id}", self._on_snapshot, self._on_event)
        stream = Stream(self._session, self._world.stream_url, self._world.tally, watch)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.run())
            tasks.create_task(self._work())

    def _on_snapshot(self, data: dict[str, Any]) -> None:
        self._tasks = {task["id"]: task for task in data["pick_tasks"]}
        self._wake.set()

    def _on_event(self, event_type: str, data: dict[str, Any]) -> None:
        if event_type == "pick_task.changed":
            self._note(data)

    def _note(self, pick_task: Json) -> None:
        if pick_task["status"] in ("handed_over", "cancelled"):
            self._tasks.pop(pick_task["id"], None)
            self._not_before.pop(pick_task["id"], None)
        else:
            self._tasks[pick_task["id"]] = pick_task
        self._wake.set()

    async def _work(self) -> None:
        # Whoever came to work before may have left a task half done.
        resumes = True
        while True:
            if not resumes:
                await self._world.until(self._wake, self._has_work, _LOOKS_AROUND_S)
            try:
                await self._serve_counter()
                await self._pause(_TURNS_ROUND_S)
                if resumes or self._queued():
                    await self._pick_next()
                resumes = False
            except (Refused, Unreachable):
                # Somebody else was faster, or the network was away: look at the screen again.
                await self._world.clock.sleep(self._rng.uniform(2.0, 8.0))

    def _queued(self) -> bool:
        return any(task["status"] == "queued" for task in self._tasks.values())

    def _has_work(self) -> bool:
        return self._queued() or self._ready() is not None

    def _ready(self) -> Json | None:
        """A packed order whose rider waits at the counter."""
        now_s = self._world.clock.now_s()
        for task in self._tasks.values():
            if (
                task["status"] == "packed"
                and self._store.counter.unserved(task["order_id"])
                and self._not_before.get(task["id"], 0.0) <= now_s
            ):
                return task
        return None

    async def _serve_counter(self) -> None:
        """Hand over what is packed, one waiting rider after the other."""
        counter = self._store.counter
        while (task := self._ready()) is not None:
            with counter.serve(task["order_id"]) as rider_code:
                await self._pause(_HANDOVER_S)
                path = f"/v1/pick-tasks/{task['id']}/handover"
                reply = await self._post(path, {"rider_code": rider_code})
            if reply.ok:
                counter.leave(task["order_id"])
                self._note(reply.data)
            else:
                # The phone of the rider may not have told the server of its arrival yet.
                self._not_before[task["id"]] = self._world.clock.now_s() + _TRIES_AGAIN_S

    async def _pick_next(self) -> None:
        reply = await self._post(f"/v1/stores/{self._store.store_id}/pick-tasks/claim", {})
        if reply.code == "nothing_to_pick":
            return
        task = reply.must()
        self._note(task)
        await self._pause(_FIRST_WALK_S)
        releases = self._rng.random() < _RELEASE_SHARE
        for line in task["lines"]:
            if not await self._pick_line(task["id"], line):
                return
            if releases:
                self._note((await self._post(f"/v1/pick-tasks/{task['id']}/release")).must())
                self._world.tally.released += 1
                return
            await self._serve_counter()
        if not await self._fetch_substitutes(task["id"]):
            return
        await self._pack(task)
        await self._serve_counter()

    async def _pick_line(self, task_id: str, line: Json) -> bool:
        """Scan a line's units, or report them short; False when the task is no longer ours."""
        left = line["quantity"] - line["picked"] - line["missing"]
        if left <= 0:
            return True
        units_s = sum(self._rng.uniform(*_UNIT_S) for _ in range(left))
        await self._world.clock.sleep(self._rng.uniform(*_LINE_S) + units_s)
        missing = self._rng.randint(1, left) if self._rng.random() < _SHORT_SHARE else 0
        if left > missing:
            body = {
                "line_id": line["line_id"],
                "barcode": line["barcode"],
                "bin": line["bin"],
                "quantity": left - missing,
            }
            if not self._still_ours(await self._post(f"/v1/pick-tasks/{task_id}/scan", body)):
                return False
            self._world.tally.picked_units += left - missing
        if missing:
            if await self._offers_substitute(task_id, line, missing):
                return True
            body = {"line_id": line["line_id"], "missing": missing, "reason": "not_found"}
            if not self._still_ours(await self._post(f"/v1/pick-tasks/{task_id}/short", body)):
                return False
            self._world.tally.short_units += missing
        return True

    async def _offers_substitute(self, task_id: str, line: Json, missing: int) -> bool:
        """Offer the nearest thing for missing units; False when there is none to be had."""
        tally = self._world.tally
        sku_id = await substitutes.find_substitute(self._session, task_id, line["line_id"])
        if sku_id is None:
            return False
        body = {"line_id": line["line_id"], "sku_id": sku_id, "quantity": missing}
        reply = await self._post(f"/v1/pick-tasks/{task_id}/substitute", body)
        if substitutes.was_refused(reply) or not self._still_ours(reply):
            return False
        tally.substitutions["offered"] += 1
        tally.short_units += missing
        return True

    async def _fetch_substitutes(self, task_id: str) -> bool:
        """Fetch what customers have approved, and wait for those who have not said; False when the
        task is no longer ours.
        """
        give_up_s = self._world.clock.now_s() + _ANSWERS_WAIT_S
        while True:
            task = self._tasks.get(task_id)
            if task is None or task["status"] != "claimed":
                return False
            for line_id, substitute, units in substitutes.to_fetch(task):
                await self._pause(_FIRST_WALK_S)
                body = {
                    "line_id": line_id, "barcode": substitute["barcode"],
                    "bin": substitute["bin"], "quantity": units,
                }  # fmt: skip
                if not self._still_ours(await self._post(f"/v1/pick-tasks/{task_id}/scan", body)):
                    return False
                self._world.tally.substitutions["fetched"] += units
            if not substitutes.is_waiting(self._tasks.get(task_id, task)):
                return True
            if self._world.clock.now_s() > give_up_s:
                return True
            await self._wait_for_answer(task_id)

    async def _wait_for_answer(self, task_id: str) -> None:
        def answered() -> bool:
            task = self._tasks.get(task_id)
            return (
                task is None
                or not substitutes.is_waiting(task)
                or bool(substitutes.to_fetch(task))
                or self._ready() is not None
            )

        if not await self._world.until(self._wake, answered, _TRIES_AGAIN_S):
            # An event may be late: look at the task itself.
            self._note(await self._session.get(f"/v1/pick-tasks/{task_id}"))
        await self._serve_counter()

    def _still_ours(self, reply: Reply) -> bool:
        """A cancelled order's task is taken away from under the picker's hands."""
        if reply.code in ("pick_task_not_yours", "illegal_transition"):
            return False
        self._note(reply.must())
        return bool(reply.data["status"] == "claimed")

    async def _pack(self, task: Json) -> None:
        await self._pause(_PACK_S)
        units = sum(line["quantity"] for line in task["lines"])
        shelf = f"{self._rng.choice('ABCDEF')}{self._rng.randint(1, 20)}"
        body = {"bags": math.ceil(units / _UNITS_A_BAG), "shelf": shelf}
        reply = await self._post(f"/v1/pick-tasks/{task['id']}/pack", body)
        if reply.code not in ("pick_task_not_yours", "illegal_transition"):
            self._note(reply.must())

    async def _post(self, path: str, body: Json | None = None) -> Reply:
        key = f"sim-{self._world.run_id}-{secrets.token_hex(8)}"
        return await self._session.call("POST", path, body, key=key)

    async def _pause(self, between_s: tuple[float, float]) -> None:
        await self._world.clock.sleep(self._rng.uniform(*between_s))
