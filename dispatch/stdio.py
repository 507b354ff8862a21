"""The engine as a program: one request a line in, one answer a line out.

The form is that of Meal Delivery Routing feeds, everything in seconds and metres:

    request  {"now_s", "epoch_s", "travel": {"model": "euclidean", "speed_mps", "round_up_to_s"},
              "pickup_service_s", "dropoff_service_s", "target_click_to_door_s",
              "stores": [{"id", "x_m", "y_m"}],
              "orders": [{"id", "store_id", "x_m", "y_m", "placed_at_s", "ready_at_s"}],
              "trip_orders": [the same, on trips not picked up yet],
              "riders": [{"id", "x_m", "y_m", "free_at_s", "shift_start_s", "shift_end_s",
                          "trip": null | {"store_id", "order_ids", "arrives_at_s"}}]}
    answer   {"trips": [{"rider_id", "store_id", "order_ids"}]}

``arrives_at_s`` is the earliest handover: half a pickup service after the arrival at the door.
Riders in this form accept everything at once, carry any load, and ready times are facts.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TextIO

import numpy as np

from dispatch.parameters import (
    CommitmentParameters,
    ExtensionParameters,
    LatenessParameters,
    OfferParameters,
    Parameters,
    RiderTimeParameters,
    ScenarioParameters,
    Solver,
    UrgencyParameters,
)
from dispatch.plan import plan
from dispatch.result import Plan
from dispatch.rolling import warm_up
from dispatch.snapshot import CurrentTrip, Demand, Order, Rider, Snapshot, Store
from dispatch.travel import FloatArray, TravelTimes

# A parsed JSON object; its values are checked where they are used.
Json = Mapping[str, Any]

# Nothing is uncertain in this form, so nothing is done early. It is scored by the mean time to
# the door rather than by promises: over the 24 public days late_weight 0.5 with postponed_s 300
# scored 2.58 minutes over the floor, late_weight 1.0 with 600 scored 2.73.
FEED_PARAMETERS = Parameters(
    solver=Solver.ROLLING,
    lateness=LatenessParameters(margin_s=0.0, late_weight=0.0),
    extension=ExtensionParameters(max_orders=8),
    urgency=UrgencyParameters(postponed_s=300.0),
    commitment=CommitmentParameters(slack_s=0.0),
    offers=OfferParameters(response_s=0.0),
    rider_time=RiderTimeParameters(fair_s=30.0),
    scenarios=ScenarioParameters(enabled=True),
)

# No answer is to take a second. Where the machine is fast enough for the rounds that are counted,
# it ends nothing, and the same seed gives the same answers.
FEED_DEADLINE_S = 0.75

# Riders in this form are paid by the order with a guarantee of one and a half an hour.
ORDER_WORK_S = 2400.0

# More than any trip holds: this form knows no capacity.
UNLIMITED_ORDERS = 1_000


class RequestError(ValueError):
    """A request that cannot be understood; the sentence names its line."""


def feed_parameters(solver: Solver, iterations: int | None = None) -> Parameters:
    """`FEED_PARAMETERS` with another solver or a fixed number of rounds."""
    rolling = FEED_PARAMETERS.rolling
    if iterations is not None:
        rolling = replace(rolling, least_iterations=iterations, most_iterations=iterations)
    return replace(FEED_PARAMETERS, solver=solver, rolling=rolling)


def run_stdio(
    stdin: TextIO,
    stdout: TextIO,
    parameters: Parameters = FEED_PARAMETERS,
    seed: int = 0,
    deadline_s: float = math.inf,
) -> None:
    """Answer each line of ``stdin`` on ``stdout`` until it ends; each plan starts from the last.

    The requests name open orders only; those of the recent past, from which demand is foreseen,
    are kept here. seed: of the engine's random numbers. deadline_s: for each plan; what is compiled
    only once is not part of it.

    Raises RequestError for a request that cannot be understood.
    """
    previous: Plan | None = None
    memory = _Memory()
    if math.isfinite(deadline_s) and parameters.solver is not Solver.MATCHING:
        warm_up()
    for number, line in enumerate(stdin, 1):
        if not line.strip():
            continue
        snapshot = _snapshot(line, number, parameters, previous, memory, seed)
        previous = plan(replace(snapshot, deadline_s=deadline_s))
        memory.given(previous)
        stdout.write(json.dumps(write_answer(previous)) + "\n")
        stdout.flush()


class _Memory:
    """What the requests do not repeat: orders of the recent past, and who brought which.

    seen: described orders by id. rider_of: order id -> rider id, as they were committed.
    """

    def __init__(self) -> None:
        self.seen: dict[str, Json] = {}
        self.rider_of: dict[str, str] = {}

    def read(self, request: Json, memory_s: float) -> None:
        """Add the request's open orders, and forget those placed more than ``memory_s`` ago."""
        for one in request["orders"]:
            self.seen.setdefault(str(one["id"]), one)
        since_s = float(request["now_s"]) - memory_s
        for order_id in [k for k, one in self.seen.items() if float(one["placed_at_s"]) < since_s]:
            del self.seen[order_id]

    def given(self, answer: Plan) -> None:
        for trip in answer.trips:
            self.rider_of.update(dict.fromkeys(trip.order_ids, trip.rider_id))

    def work_share(self, described: Json, orders: int) -> float:
        """Seconds of work over those of the whole shift; an order counts as `ORDER_WORK_S`."""
        shift_s = float(described["shift_end_s"]) - float(described["shift_start_s"])
        return min(1.0, orders * ORDER_WORK_S / shift_s) if shift_s > 0 else 1.0


def _snapshot(
    line: str,
    number: int,
    parameters: Parameters,
    previous: Plan | None,
    memory: _Memory,
    seed: int,
) -> Snapshot:
    where = f"the request on line {number}"
    try:
        request = json.loads(line)
    except ValueError as error:
        raise RequestError(f"{where} is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise RequestError(f"{where} is not an object")
    try:
        memory.read(request, parameters.ghosts.memory_s)
        return read_request(request, parameters, previous, memory, seed)
    except KeyError as error:
        raise RequestError(f"{where} has no {error}") from error
    except TypeError as error:
        raise RequestError(f"{where} is not of the form in dispatch/stdio.py: {error}") from error
    except ValueError as error:
        raise RequestError(f"{where}: {error}") from error


def read_request(
    request: Json,
    parameters: Parameters = FEED_PARAMETERS,
    previous: Plan | None = None,
    memory: _Memory | None = None,
    seed: int = 0,
) -> Snapshot:
    """The snapshot that one request describes, with what is remembered of those before.

    Raises KeyError, TypeError or ValueError when it is not of the form above.
    """
    model = request["travel"]["model"]
    if model != "euclidean":
        raise ValueError(f"unknown travel model {model!r}")
    points = _Points()
    pickup_service_s = float(request["pickup_service_s"])
    target_s = float(request["target_click_to_door_s"])
    stores = tuple(
        Store(store_id=str(one["id"]), place=points.place(one), pickup_service_s=pickup_service_s)
        for one in request["stores"]
    )
    orders = _orders(request["orders"], points, target_s)
    trip_orders = _orders(request.get("trip_orders", ()), points, target_s)
    memory = memory or _Memory()
    worked = Counter(memory.rider_of.values())
    riders = tuple(
        _rider(
            one,
            points,
            pickup_service_s / 2,
            memory.work_share(one, worked[str(one["id"])]),
        )
        for one in request["riders"]
    )
    known = {store.store_id for store in stores}
    recent = tuple(
        Demand(
            order_id=str(one["id"]),
            store_id=str(one["store_id"]),
            place=points.place(one),
            placed_at_s=float(one["placed_at_s"]),
            ready_at_s=float(one["ready_at_s"]),
        )
        for one in memory.seen.values()
        if str(one["store_id"]) in known
    )
    return Snapshot(
        now_s=float(request["now_s"]),
        epoch_s=float(request["epoch_s"]),
        dropoff_service_s=float(request["dropoff_service_s"]),
        orders=orders,
        trip_orders=trip_orders,
        riders=riders,
        stores=stores,
        travel=points.travel_times(
            float(request["travel"]["speed_mps"]), float(request["travel"]["round_up_to_s"])
        ),
        recent=recent,
        parameters=parameters,
        previous=previous,
        seed=seed,
    )


def write_answer(answer: Plan) -> dict[str, list[dict[str, object]]]:
    """The trips to commit; what is held or unassigned is left out and comes back."""
    return {
        "trips": [
            {
                "rider_id": trip.rider_id,
                "store_id": trip.store_id,
                "order_ids": list(trip.order_ids),
            }
            for trip in answer.trips
        ]
    }


class _Points:
    """Numbers the distinct points of a request."""

    def __init__(self) -> None:
        self._place_of: dict[tuple[float, float], int] = {}

    def place(self, described: Json) -> int:
        point = (float(described["x_m"]), float(described["y_m"]))
        if not all(map(math.isfinite, point)):
            raise ValueError(f"a point is not finite: {point}")
        return self._place_of.setdefault(point, len(self._place_of))

    def travel_times(self, speed_mps: float, round_up_to_s: float) -> TravelTimes:
        """Straight lines at one speed, rounded up to whole steps (0: not rounded)."""
        if not speed_mps > 0:
            raise ValueError("speed_mps must be positive")
        points = np.array(list(self._place_of), dtype=np.float64).reshape(-1, 2)
        metres: FloatArray = np.hypot(*(points[:, None, :] - points[None, :, :]).T)
        seconds = metres / speed_mps
        if round_up_to_s > 0:
            # An exact multiple must not become one step more through the division above.
            seconds = np.ceil(seconds / round_up_to_s - 1e-9) * round_up_to_s
        row_of = np.arange(len(points), dtype=np.int32)
        return TravelTimes(seconds=seconds, row_of=row_of, metres=metres)


def _orders(described: Iterable[Json], points: _Points, target_s: float) -> tuple[Order, ...]:
    return tuple(
        Order(
            order_id=str(one["id"]),
            store_id=str(one["store_id"]),
            place=points.place(one),
            placed_at_s=float(one["placed_at_s"]),
            ready_at_s=float(one["ready_at_s"]),
            promised_by_s=float(one["placed_at_s"]) + target_s,
        )
        for one in described
    )


def _rider(described: Json, points: _Points, half_service_s: float, work_share: float) -> Rider:
    trip = described["trip"]
    return Rider(
        rider_id=str(described["id"]),
        place=points.place(described),
        free_at_s=float(described["free_at_s"]),
        shift_start_s=float(described["shift_start_s"]),
        shift_end_s=float(described["shift_end_s"]),
        capacity_orders=UNLIMITED_ORDERS,
        work_share=work_share,
        trip=None
        if trip is None
        else CurrentTrip(
            store_id=str(trip["store_id"]),
            order_ids=tuple(map(str, trip["order_ids"])),
            arrives_at_s=float(trip["arrives_at_s"]) - half_service_s,
        ),
    )
