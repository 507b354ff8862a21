"""Comparing what we wrote down with what a gateway lists.  Pure: two lists in, differences out.

Ours are given twice, read before and after the gateway's log: on a running system, what had
succeeded before has to be in the log, and what the log holds has to be known after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from payments.gateway import GatewayOperation, OperationKind
from payments.operations import OPEN_STATUSES, OperationStatus


class DifferenceKind(StrEnum):
    MISSING_THERE = "missing_there"  # succeeded here, and the gateway does not list it
    MISSING_HERE = "missing_here"  # took effect there, and we never asked for it
    AMOUNT = "amount"
    CURRENCY = "currency"
    ORDER = "order"
    OPERATION = "operation"  # another kind of operation under our key
    STATUS = "status"  # took effect there, and is refused here
    DUPLICATE = "duplicate"  # one operation of ours took effect twice


@dataclass(frozen=True, slots=True)
class OurOperation:
    """``gateway_operation_id`` is the line of the log that it was found on before."""

    id: str
    order_id: str
    kind: OperationKind
    amount_minor: int
    currency: str
    status: OperationStatus
    reference: str | None
    gateway_operation_id: str | None = None

    def facts(self) -> dict[str, object]:
        return {
            "order_id": self.order_id,
            "kind": self.kind.value,
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "status": self.status.value,
            "reference": self.reference,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """``subject`` is the same for the same difference, whenever it is found."""

    kind: DifferenceKind
    subject: str
    order_id: str | None
    ours: OurOperation | None = None
    theirs: GatewayOperation | None = None

    def sentence(self) -> str:
        what = self.ours.kind if self.ours else self.theirs.kind if self.theirs else "operation"
        return f"{self.subject} ({self.kind}, {what} of {self.order_id or 'no order'})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``found`` is the log's line for each operation of ours that it agrees with."""

    compared: int
    differences: Sequence[Difference]
    found: Mapping[str, str]


# Every gateway lists these; authorisations and voids only where its log holds any.
_ALWAYS_LISTED: Final = frozenset({OperationKind.CAPTURE, OperationKind.REFUND})


def compare(
    before: Iterable[OurOperation],
    theirs: Sequence[GatewayOperation],
    after: Iterable[OurOperation],
) -> Comparison:
    """Every difference between ours and theirs, each once.

    ``before`` are operations of ours that should be in this part of the log if they succeeded;
    ``after`` all that it can possibly show.
    """
    known = {one.id: one for one in after}
    lines_of: dict[str, list[GatewayOperation]] = {}
    differences: list[Difference] = []
    for line in _distinct(theirs):
        ours = known.get(line.operation_key) or _by_reference(line, known.values(), lines_of)
        if ours is None:
            differences.append(_missing_here(line))
        else:
            lines_of.setdefault(ours.id, []).append(line)
    found: dict[str, str] = {}
    for operation_id, lines in lines_of.items():
        ours = known[operation_id]
        first, *others = _first_known(ours, lines)
        difference = _disagreement(ours, first)
        if difference is not None:
            differences.append(Difference(difference, ours.id, ours.order_id, ours, first))
        elif ours.status is OperationStatus.SUCCEEDED:
            found[ours.id] = first.operation_id
        differences += [
            Difference(DifferenceKind.DUPLICATE, other.operation_id, ours.order_id, ours, other)
            for other in others
        ]
    listed = _ALWAYS_LISTED | {line.kind for line in theirs}
    differences += [
        Difference(DifferenceKind.MISSING_THERE, ours.id, ours.order_id, ours)
        for ours in before
        if ours.status is OperationStatus.SUCCEEDED
        and ours.kind in listed
        and ours.id not in lines_of
    ]
    return Comparison(len(theirs), differences, found)


def _distinct(lines: Sequence[GatewayOperation]) -> list[GatewayOperation]:
    """Pages that moved while they were read can show a line twice."""
    return list({line.operation_id: line for line in lines}.values())


def _by_reference(
    line: GatewayOperation,
    known: Iterable[OurOperation],
    lines_of: Mapping[str, list[GatewayOperation]],
) -> OurOperation | None:
    """A line without a key of ours: the operation of its kind on that payment, not found yet."""
    if line.operation_key:
        return None
    fitting = [
        one
        for one in known
        if (one.reference, one.kind) == (line.reference, line.kind)
        and one.id not in lines_of
        and one.gateway_operation_id in (None, line.operation_id)
        and one.status in (OperationStatus.SUCCEEDED, *OPEN_STATUSES)
    ]
    exact = [one for one in fitting if one.amount_minor == line.amount.amount_minor]
    if exact:
        return exact[0]
    # A payment has one capture and one void; of several refunds none can be meant by another sum.
    return fitting[0] if fitting and line.kind is not OperationKind.REFUND else None


def _missing_here(line: GatewayOperation) -> Difference:
    return Difference(
        DifferenceKind.MISSING_HERE, line.operation_id, line.order_id or None, theirs=line
    )


def _first_known(
    ours: OurOperation, lines: Sequence[GatewayOperation]
) -> Sequence[GatewayOperation]:
    """The lines with the one that stands for our operation first: known before, else the oldest."""
    return sorted(lines, key=lambda line: (line.operation_id != ours.gateway_operation_id, line.at))


def _disagreement(ours: OurOperation, line: GatewayOperation) -> DifferenceKind | None:
    if line.kind is not ours.kind:
        return DifferenceKind.OPERATION
    if line.order_id and line.order_id != ours.order_id:
        return DifferenceKind.ORDER
    # A void frees whatever was authorised; its amount is not ours to say.
    if ours.kind is not OperationKind.VOID:
        if line.amount.currency != ours.currency:
            return DifferenceKind.CURRENCY
        if line.amount.amount_minor != ours.amount_minor:
            return DifferenceKind.AMOUNT
    if ours.status is not OperationStatus.SUCCEEDED and ours.status not in OPEN_STATUSES:
        return DifferenceKind.STATUS
    return None
