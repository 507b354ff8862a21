"""Which rider takes which orders, when to set out, what to promise and when it will arrive.

Pure arithmetic: no network, database or settings; the same question gets the same answer.
"""

from dispatch.eta import EtaInputs, Stage, eta
from dispatch.parameters import (
    Backend,
    CommitmentParameters,
    ExtensionParameters,
    LatenessParameters,
    MatchingParameters,
    OfferParameters,
    Parameters,
    RiderTimeParameters,
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
    Statistics,
    Stop,
    StopKind,
    Trip,
    Unassigned,
    UnassignedReason,
)
from dispatch.snapshot import CurrentTrip, Order, Rider, Snapshot, Store
from dispatch.travel import TravelTimes

__all__ = [
    "Backend",
    "CommitmentParameters",
    "CurrentTrip",
    "EtaInputs",
    "Explanation",
    "ExtensionParameters",
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
    "Snapshot",
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
    "plan",
    "promise",
]
