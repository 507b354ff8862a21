"""One decision as it is kept: the question, the answer, and with what they came about."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dispatch.codec import CodecError, Plain, decode, encode
from dispatch.result import Plan
from dispatch.snapshot import Snapshot

# Raised when records of before cannot be read any more by defaults alone.
FORM: Final = 1
DEFAULT_SET: Final = "default"

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """A snapshot with the plan that it got.

    epoch: of the dispatcher's lease. parameter_set: the name under which the snapshot's
    parameters are compared. engine: the version that planned. seconds: how long it took.
    points: shape (places, 2), latitude and longitude of each place; None where only riding times
    are known.
    """

    decision_id: str
    city_id: str
    snapshot: Snapshot
    plan: Plan
    epoch: int = 0
    parameter_set: str = DEFAULT_SET
    engine: str = ""
    seconds: float = 0.0
    points: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.points is not None and self.points.shape != (self.snapshot.travel.places, 2):
            raise ValueError("points must have a latitude and a longitude for each place")


def write_decision(decision: Decision) -> Plain:
    """The decision as plain data."""
    return {"form": FORM, **encode(decision)}


def read_decision(plain: Plain) -> Decision:
    """The decision that ``write_decision`` has written.

    Raises CodecError for data of another form, ValueError for a question that cannot be.
    """
    if type(plain) is not dict or plain.get("form") != FORM:
        form = plain.get("form") if type(plain) is dict else None
        raise CodecError(f"a decision of form {FORM} expected, not of form {form!r}")
    return decode(Decision, {name: value for name, value in plain.items() if name != "form"})


def engine_version() -> str:
    """The version of this program, as it is written beside each decision."""
    try:
        return version("darkstore")
    except PackageNotFoundError:
        return "unknown"
