"""The report of ``darkstore explain``: every decision about one order, and a picture of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.decision import Decision
from dispatch.explain import Moment, Outcome, candidates, moments, turning_points
from dispatch.explain_svg import draw
from riders import decisions as kept
from server import decision_files
from server.decision_files import DamagedLog
from server.dispatch_history import Row, row_of, shape, shape_candidate, shape_prices

Tell = Callable[[str], None]
# More than any order has, even one that waits for hours.
ROWS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Found:
    """rows: what changed, in sequence of time. history: the whole decisions that can be read."""

    order_id: str
    rows: Sequence[Row]
    history: Sequence[Moment]


def from_files(place: Path, order_id: str, tell: Tell) -> Found:
    """Read every decision below a path that names the order.  Raises ValueError, OSError."""
    entries = decision_files.read_all(place, tell, naming=order_id)
    history = moments((entry.decision for entry in entries), order_id)
    rows = [row_of(order_id, one) for one in turning_points(history)]
    return Found(order_id, rows, history)


async def from_instance(data_dir: Path | None, order_id: str, tell: Tell) -> Found:
    """What the index of an instance knows, and the decisions to which it points."""
    from server.platform import attached, data_directory
    from server.wiring import open_services

    async with attached(data_directory(data_dir)) as settings:
        async with open_services(settings, process="explain", pool_size=2) as services:
            async with services.database.begin() as conn:
                rows = await kept.of_order(conn, order_id, ROWS_MAX)
    rows.reverse()
    directory = settings.decision_log.directory
    found = [] if directory is None else _decisions(directory, rows, tell)
    return Found(order_id, rows, moments(found, order_id))


def _decisions(directory: Path, rows: Sequence[Row], tell: Tell) -> list[Decision]:
    read = []
    for row in rows:
        if row["file"] is None:
            continue
        try:
            read.append(decision_files.read_at(directory / row["file"], row["file_offset"]))
        except FileNotFoundError:
            tell(f"{row['file']} is not kept any more; the explanation is.")
        except (DamagedLog, OSError) as error:
            tell(str(error))
    return read


def chosen(found: Found, decision_id: str | None) -> Moment:
    """The moment to draw: the named one, else the last assignment, else the last one.

    Raises ValueError when its whole decision is not there.
    """
    if decision_id is not None:
        named = [one for one in found.history if one.decision.decision_id == decision_id]
        if not named:
            raise ValueError(f"There is no whole decision {decision_id} about this order.")
        return named[0]
    if not found.history:
        raise ValueError("The decisions about this order are not kept as a whole any more.")
    given = [
        one for one in found.history if one.outcome is Outcome.ASSIGNED and one.new(found.order_id)
    ]
    return (given or list(found.history))[-1]


def picture(found: Found, decision_id: str | None) -> str:
    """The SVG of one decision.  Raises ValueError as ``chosen`` does."""
    moment = chosen(found, decision_id)
    before = [one for one in found.history if one.at_s <= moment.at_s]
    return draw(found.order_id, before, moment)


def report(found: Found) -> dict[str, Any]:
    """For a program: the history, and who could have had the order at the end of it."""
    last = chosen(found, None) if found.history else None
    others = [] if last is None else candidates(last.decision.snapshot, found.order_id)
    return {
        "order_id": found.order_id,
        "decisions": [shape(row) for row in found.rows],
        "candidates": [shape_candidate(one) for one in others],
        "costs_mean": None if last is None else shape_prices(last),
    }
