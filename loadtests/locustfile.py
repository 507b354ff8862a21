"""Customers, pickers and riders against a running Darkstore.

    DARKSTORE_LOG_INS=log-ins.json locust -f loadtests/locustfile.py --headless -u 70 -r 20 -t 1m

``python -m loadtests.run`` does that on a fresh system.  Every log-in of a picker and a rider is
used once; all users beyond those are customers.  An unexpected status or close is a failure, and
failures make the exit code 1.
"""

from __future__ import annotations

import random
import sys
import time
import uuid
from typing import Any

import gevent
from locust import FastHttpUser, between, constant, events, task
from locust.exception import RescheduleTask, StopUser

from loadtests.stream import Stream, StreamClosed
from loadtests.world import LogIn, load_world

WORLD = load_world()

LISTING_PAGES_MAX = 20
TRACKED_FOR_S = 20.0
POSITION_EVERY_S = 4.0
# A waiting picker looks this often; the queue's own news come over the store's channel.
IDLE_S = 1.0
ORDER_OVER = frozenset({"delivered", "cancelled", "payment_failed", "returned"})


@events.quit.add_listener
def summary(**_: object) -> None:
    """What the numbers of requests came to."""
    desk = WORLD.desk
    sys.stdout.write(f"{desk.placed} orders placed, {desk.delivered} delivered\n")


class Refused(RescheduleTask):
    """An unexpected refusal, counted already: the person starts something new."""


class Person(FastHttpUser):
    """Somebody with a token.  Refusals that a person would live with are not failures."""

    abstract = True
    host = "http://127.0.0.1:8000"
    network_timeout = 30.0
    connection_timeout = 10.0

    token: str
    refresh_token: str
    refresh_at_s: float

    def hello(self, session: dict[str, Any]) -> None:
        """Keep the tokens of a log-in, and learn how the system's clock runs."""
        sent_s = time.time()
        told = self.call("GET", "/v1/clock", anonymous=True)
        WORLD.clock.learn(told, sent_s, time.time())
        self._keep(session)

    def _keep(self, session: dict[str, Any]) -> None:
        self.token, self.refresh_token = session["access_token"], session["refresh_token"]
        self.refresh_at_s = time.time() + session["expires_in_s"] / WORLD.clock.speed / 2

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        expected: tuple[str, ...] = (),
        anonymous: bool = False,
        keyed: bool = False,
    ) -> Any:
        """The answer's JSON; None for a refusal whose code is ``expected``.

        Any other refusal is counted as a failure and ends the person's present task.
        """
        headers = {}
        if not anonymous:
            if time.time() > self.refresh_at_s:
                self.refresh_at_s = float("inf")
                fresh = {"refresh_token": self.refresh_token}
                self._keep(self.call("POST", "/v1/auth/refresh", fresh, anonymous=True))
            headers["Authorization"] = f"Bearer {self.token}"
        if keyed:
            headers["Idempotency-Key"] = str(uuid.uuid4())
        with self.client.request(
            method, path, json=body, headers=headers, name=name or path, catch_response=True
        ) as response:
            if response.ok:
                response.success()
                return response.json() if response.content else None
            code = _code(response)
            if code in expected:
                response.success()
                return None
            response.failure(f"{response.status_code} {code}")
        raise Refused(code)

    def stream(self, channel: str) -> Stream:
        """A socket on a channel.  Raises ``StreamClosed``."""
        ticket = self.call("POST", "/v1/realtime/tickets", {})["ticket"]
        assert self.host is not None
        return Stream(self.environment, WORLD.clock, self.host, ticket, channel)


def _code(response: Any) -> str:
    try:
        return str(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        return response.error.__class__.__name__ if response.error else "no_problem_document"


def _log_in(person: Person, log_in: LogIn) -> None:
    body = {"email": log_in.email, "password": log_in.password}
    person.hello(person.call("POST", "/v1/auth/login", body, anonymous=True))


class Customer(Person):
    """A guest who browses, orders and watches the order come."""

    wait_time = between(0.5, 2.0)

    def on_start(self) -> None:
        self.hello(self.call("POST", "/v1/auth/guest", {}, anonymous=True))
        WORLD.open_demand(self._listing(next(iter(WORLD.stores)), LISTING_PAGES_MAX))

    def _listing(self, store_id: str, pages: int) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(pages):
            page = self.call(
                "GET",
                f"/v1/stores/{store_id}/products?limit=100{cursor}",
                name="/v1/stores/{store_id}/products",
            )
            items += page["items"]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        return items

    @task(2)
    def browse(self) -> None:
        """Look around and leave."""
        self._listing(random.choice(list(WORLD.stores)), 1)

    @task(3)
    def order(self) -> None:
        """From where the customer stands to the door, as far as the test lasts."""
        wish, lines = WORLD.next_order()
        served = self.call(
            "GET",
            f"/v1/serviceability?lat={wish.lat}&lon={wish.lon}",
            name="/v1/serviceability",
        )
        if not served["serviceable"]:
            return
        quote = self.call(
            "POST",
            "/v1/quotes",
            {
                "store_id": served["store_id"],
                "lines": lines,
                "dropoff": {"lat": wish.lat, "lon": wish.lon, "address": "1 Test Street"},
                "tip": wish.tip_minor,
            },
            expected=("stock_short", "not_serviceable"),
            keyed=True,
        )
        if quote is None:
            return
        order = self.call(
            "POST",
            "/v1/orders",
            {"quote_id": quote["id"], "payment": {"method": wish.method, "token": wish.token}},
            name=f"/v1/orders ({wish.token or 'cash'})",
            expected=("stock_short",),
            keyed=True,
        )
        if order is not None and order["status"] not in ORDER_OVER:
            WORLD.desk.placed += 1
            WORLD.desk.delivery_codes[order["id"]] = order["delivery_code"]
            self._follow(order["id"])

    def _follow(self, order_id: str) -> None:
        """Watch the order until it is over or the customer puts the phone away."""
        until_s = time.time() + TRACKED_FOR_S
        try:
            stream = self.stream(f"order:{order_id}")
        except StreamClosed as error:
            raise Refused from error
        try:
            while time.time() < until_s:
                frame = stream.receive(1.0)
                if frame is None or frame["op"] != "event" or frame["type"] != "order.status":
                    continue
                if frame["data"]["status"] in ORDER_OVER:
                    break
        finally:
            stream.close()
        self.call("GET", f"/v1/orders/{order_id}", name="/v1/orders/{order_id}")


class Picker(Person):
    """Claims, scans, packs, and hands over to riders who wait."""

    wait_time = constant(0)
    fixed_count = len(WORLD.pickers)
    log_in: LogIn

    def on_start(self) -> None:
        if not WORLD.pickers:
            raise StopUser
        self.log_in = WORLD.pickers.popleft()
        _log_in(self, self.log_in)

    @task
    def work(self) -> None:
        """One thing at a time: riders at the counter go first."""
        ready = self._rider_to_serve()
        if ready is not None:
            self._hand_over(*ready)
            return
        pick_task = self.call(
            "POST",
            f"/v1/stores/{self.log_in.store_id}/pick-tasks/claim",
            {},
            name="/v1/stores/{store_id}/pick-tasks/claim",
            expected=("nothing_to_pick",),
        )
        if pick_task is None:
            gevent.sleep(IDLE_S)
        else:
            self._pick(pick_task)

    def _rider_to_serve(self) -> tuple[str, str] | None:
        """(order id, rider code) of the first rider whose order is packed; off the queue now."""
        waiting = WORLD.desk.counters[self.log_in.store_id]
        for order_id, rider_code in waiting:
            if order_id in WORLD.desk.pick_tasks:
                waiting.remove((order_id, rider_code))
                return order_id, rider_code
        return None

    def _pick(self, pick_task: dict[str, Any]) -> None:
        path, name = f"/v1/pick-tasks/{pick_task['id']}", "/v1/pick-tasks/{id}"
        for line in pick_task["lines"]:
            left = line["quantity"] - line["picked"] - line["missing"]
            if left <= 0:
                continue
            scan = {
                "line_id": line["line_id"],
                "barcode": line["barcode"],
                "bin": line["bin"],
                "quantity": left,
            }
            self.call("POST", f"{path}/scan", scan, name=f"{name}/scan")
        self.call("POST", f"{path}/pack", {"bags": 1, "shelf": "A1"}, name=f"{name}/pack")
        WORLD.desk.pick_tasks[pick_task["order_id"]] = pick_task["id"]

    def _hand_over(self, order_id: str, rider_code: str) -> None:
        self.call(
            "POST",
            f"/v1/pick-tasks/{WORLD.desk.pick_tasks[order_id]}/handover",
            {"rider_code": rider_code},
            name="/v1/pick-tasks/{id}/handover",
        )


class Rider(Person):
    """On shift with the stream open: positions up, offers down, trips ridden at once."""

    wait_time = constant(0)
    fixed_count = len(WORLD.riders)
    log_in: LogIn
    socket: Stream | None = None

    def on_start(self) -> None:
        if not WORLD.riders:
            raise StopUser
        self.log_in = WORLD.riders.popleft()
        _log_in(self, self.log_in)
        self.at = (self.log_in.place.lat, self.log_in.place.lon)
        self.call("POST", "/v1/riders/me/shift/start", {}, expected=("illegal_transition",))
        point = {"t": WORLD.clock.now().isoformat(), "lat": self.at[0], "lon": self.at[1]}
        self.call("POST", "/v1/riders/me/positions", {"points": [point]})

    def on_stop(self) -> None:
        if self.socket is not None:
            self.socket.close()

    @task
    def ride(self) -> None:
        """Listen for an offer for as long as one position lasts."""
        try:
            if self.socket is None:
                self.socket = self.stream(f"rider:{self.log_in.rider_id}")
                for offer in self.socket.snapshot["offers"]:
                    self._answer(offer)
            self._send_position()
            until_s = time.time() + POSITION_EVERY_S
            while (left_s := until_s - time.time()) > 0:
                frame = self.socket.receive(left_s)
                if frame is not None and frame.get("type") == "offer.made":
                    self._answer(frame["data"])
        except StreamClosed:
            self.socket = None
            gevent.sleep(IDLE_S)

    def _send_position(self) -> None:
        assert self.socket is not None
        point = {
            "t": WORLD.clock.now().isoformat(),
            "lat": self.at[0],
            "lon": self.at[1],
            "accuracy_m": 8,
        }
        self.socket.send({"op": "positions", "points": [point]})

    def _answer(self, offer: dict[str, Any]) -> None:
        path = f"/v1/offers/{offer['id']}"
        over = ("offer_expired", "illegal_transition")
        if random.random() < 0.05:
            self.call("POST", f"{path}/decline", {}, name="/v1/offers/{id}/decline", expected=over)
            return
        trip = self.call("POST", f"{path}/accept", {}, name="/v1/offers/{id}/accept", expected=over)
        if trip is not None:
            self._deliver(trip)

    def _deliver(self, trip: dict[str, Any]) -> None:
        """Every stop in turn; a stop whose order was cancelled is passed by."""
        path = f"/v1/trips/{trip['id']}/stops"
        for stop in trip["stops"]:
            self.at = (stop["lat"], stop["lon"])
            self._send_position()
            arrived = self.call(
                "POST",
                f"{path}/{stop['n']}/arrive",
                {},
                name="/v1/trips/{id}/stops/{n}/arrive",
                expected=("illegal_transition",),
            )
            if arrived is None:
                return
            if stop["kind"] == "pickup":
                waiting = (stop["order_id"], trip["rider_code"])
                WORLD.desk.counters[trip["store_id"]].append(waiting)
                self._until_collected(stop["order_id"])
            else:
                self._hand_out(path, stop)

    def _until_collected(self, order_id: str) -> None:
        """Wait at the counter until the trip says that the bags were given."""
        assert self.socket is not None
        sent_s = time.time()
        while True:
            frame = self.socket.receive(1.0)
            if frame is not None and frame.get("type") == "trip.changed":
                for stop in frame["data"]["stops"]:
                    collected = stop["kind"] == "pickup" and stop["status"] == "completed"
                    if stop["order_id"] == order_id and collected:
                        return
                if frame["data"]["status"] != "active":
                    return
            if time.time() - sent_s > POSITION_EVERY_S:
                sent_s = time.time()
                self._send_position()

    def _hand_out(self, path: str, stop: dict[str, Any]) -> None:
        # A payment may be through while its customer still waits for the answer of the checkout.
        while stop["order_id"] not in WORLD.desk.delivery_codes:
            gevent.sleep(IDLE_S)
        proof: dict[str, Any] = {"otp": WORLD.desk.delivery_codes.pop(stop["order_id"])}
        if stop["cash_due"] is not None:
            proof["cash_collected"] = stop["cash_due"]["amount_minor"]
        self.call(
            "POST", f"{path}/{stop['n']}/complete", proof, name="/v1/trips/{id}/stops/{n}/complete"
        )
        WORLD.desk.delivered += 1
