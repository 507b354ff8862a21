"""Which rider takes which orders, when to set out, what to promise and when it will arrive.

Pure arithmetic: no network, database or settings; the same question gets the same answer.
"""

from dispatch.eta import EtaInputs, Stage, eta
from dispatch.parameters import (
    Backend,
    CommitmentParameters,
    ExtensionParameters,
    GhostParameters,
    LatenessParameters,
    MatchingParameters,
    OfferParameters,
    Parameters,
    RiderTimeParameters,
    RollingParameters,
    Solver,
    Temperature,
    UrgencyParameters,
    Vehicle,
    VehicleParameters,
)
from dispatch.plan import plan
from dispatch.promise import PromiseInputs, PromiseParameters, PromiseRange, promise
from dispatch.result import (
    Explanation,
    Held,
    HeldReason,
    Plan,
    Route,
    Statistics,
    Stop,
    StopKind,
    Trip,
    Unassigned,
    UnassignedReason,
)
from dispatch.rolling import is_warm, warm_up
from dispatch.snapshot import CurrentTrip, Demand, Order, Rider, Snapshot, Store
from dispatch.travel import TravelTimes

__all__ = [
    "Backend",
    "CommitmentParameters",
    "CurrentTrip",
    "Demand",
    "EtaInputs",
    "Explanation",
    "ExtensionParameters",
    "GhostParameters",
    "Held",
    "HeldReason",
    "LatenessParameters",
    "MatchingParameters",
    "OfferParameters",
    "Order",
    "Parameters",
    "Plan",
    "PromiseInputs",
    "PromiseParameters",
    "PromiseRange",
    "Rider",
    "RiderTimeParameters",
    "RollingParameters",
    "Route",
    "Snapshot",
    "Solver",
    "Stage",
    "Statistics",
    "Stop",
    "StopKind",
    "Store",
    "Temperature",
    "TravelTimes",
    "Trip",
    "Unassigned",
    "UnassignedReason",
    "UrgencyParameters",
    "Vehicle",
    "VehicleParameters",
    "eta",
    "is_warm",
    "plan",
    "promise",
    "warm_up",
]
