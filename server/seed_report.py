"""What a seed made, for scripts (JSON) and for people (a terminal)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from rich.console import Console
from rich.progress import Progress as ProgressBar
from rich.progress import TaskID

from catalog.csv_import import ImportReport
from catalog.repository import ImportCounts
from identity.model import Role
from server.seed_people import Person
from stores.repository import City, Store

# A file with thousands of bad rows must not drown the log-ins.
ISSUES_SHOWN: Final = 20


class Progress(Protocol):
    """Told how far a stage is; may be called from a thread."""

    def __call__(self, stage: str, done: int, total: int, /) -> None: ...


@dataclass(frozen=True, slots=True)
class LogIn:
    """``password`` is None for somebody whom an earlier seed created: it was shown then."""

    user_id: str
    email: str
    password: str | None

    def as_json(self) -> dict[str, object]:
        return {"user_id": self.user_id, "email": self.email, "password": self.password}


@dataclass(frozen=True, slots=True)
class SeededPerson:
    """``rider_id`` is set for riders."""

    person: Person
    log_in: LogIn
    rider_id: str | None


@dataclass(frozen=True, slots=True)
class SeedResult:
    """A city with its stores and people; ``report`` is None for the generated catalogue."""

    city: City
    stores: tuple[Store, ...]
    people: tuple[SeededPerson, ...]
    products: ImportCounts
    report: ImportReport | None

    def of_role(self, role: Role, store_id: str | None = None) -> list[SeededPerson]:
        """People of a role, in order; of one store if it is given."""
        return [
            seeded
            for seeded in self.people
            if seeded.person.role is role and store_id in (None, seeded.person.store_id)
        ]

    def as_json(self) -> dict[str, object]:
        """``{"city", "stores", "riders", "pickers", "ops", "admin", "support", "import",
        "rejected"}``; ``password`` is null where an earlier seed made the log-in."""
        return {
            "city": {
                "id": self.city.id,
                "name": self.city.name,
                "currency": self.city.currency,
                "lat": self.city.lat,
                "lon": self.city.lon,
            },
            "stores": [self._store_json(store) for store in self.stores],
            "riders": [
                {
                    "rider_id": rider.rider_id,
                    "name": rider.person.name,
                    "vehicle": rider.person.vehicle.name if rider.person.vehicle else None,
                    **rider.log_in.as_json(),
                }
                for rider in self.of_role(Role.RIDER)
            ],
            "pickers": [
                {"store_id": picker.person.store_id, **picker.log_in.as_json()}
                for picker in self.of_role(Role.PICKER)
            ],
            **{
                role.value: self.of_role(role)[0].log_in.as_json()
                for role in (Role.OPS, Role.ADMIN, Role.SUPPORT)
            },
            "import": self._import_json(),
            "rejected": self._rejected_json(),
        }

    def _store_json(self, store: Store) -> dict[str, object]:
        log_ins: dict[str, object] = {}
        for key, role in (("manager", Role.STORE_MANAGER), ("picker", Role.PICKER)):
            found = self.of_role(role, store.id)
            if found:
                log_ins[key] = found[0].log_in.as_json()
        return {
            "id": store.id,
            "name": store.name,
            "lat": store.lat,
            "lon": store.lon,
            "log_ins": log_ins,
        }

    def _import_json(self) -> dict[str, object]:
        counts: dict[str, object] = {
            "inserted": self.products.inserted,
            "updated": self.products.updated,
            "unchanged": self.products.unchanged,
        }
        if self.report is not None:
            counts |= {
                "rows": self.report.rows,
                "products": self.report.products,
                "folded": self.report.folded,
                "out_of_stock": self.report.out_of_stock,
                "rejected": self.report.rejected,
                "rejected_by_reason": {
                    reason.value: count for reason, count in self.report.rejected_by_reason.items()
                },
            }
        return counts

    def _rejected_json(self) -> list[dict[str, object]]:
        issues = () if self.report is None else self.report.issues[:ISSUES_SHOWN]
        return [
            {"line": issue.line, "reason": issue.reason_code.value, "detail": issue.detail}
            for issue in issues
        ]


@contextmanager
def terminal_progress(console: Console) -> Iterator[Progress]:
    """A bar for each stage while the console is a terminal; silence otherwise."""
    with ProgressBar(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, /) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield show


def print_result(result: SeedResult, console: Console) -> None:
    """The import's report, then the stores with their places, then the log-ins.

    Lines, not tables: they are copied from, and a narrow terminal would cut their cells.
    """
    for line in [*_import_lines(result), "", *_store_lines(result), "", *_log_in_lines(result)]:
        # The import quotes a file: what looks like markup in it is text.
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _store_lines(result: SeedResult) -> Iterator[str]:
    yield f"Stores of {result.city.name} ({result.city.id})"
    for store in result.stores:
        yield f"  {store.id}  {store.lat:.6f},{store.lon:.6f}  {store.name}"


def _log_in_lines(result: SeedResult) -> Iterator[str]:
    new = [seeded for seeded in result.people if seeded.log_in.password is not None]
    old_count = len(result.people) - len(new)
    if old_count:
        yield f"{old_count} log-ins were there already; their passwords were shown then."
    if not new:
        return
    yield "One-time log-ins, shown only now"
    width = max(len(seeded.log_in.email) for seeded in new)
    for seeded in new:
        role, log_in = seeded.person.role.value, seeded.log_in
        place = seeded.rider_id or seeded.person.store_id or ""
        yield f"  {role:13}  {log_in.email:{width}}  {log_in.password}  {place}".rstrip()


def _import_lines(result: SeedResult) -> Iterator[str]:
    counts = result.products
    yield f"Products: {counts.inserted} new, {counts.updated} changed, {counts.unchanged} as before"
    report = result.report
    if report is None:
        return
    yield (
        f"The file had {report.rows} rows: {report.products} products"
        f" ({report.out_of_stock} out of stock), {report.folded} rows folded into others,"
        f" {report.rejected} left out"
    )
    for reason, count in report.rejected_by_reason.items():
        yield f"  {count:5} {reason.value}"
    for issue in report.issues[:ISSUES_SHOWN]:
        yield f"  line {issue.line}: {issue.reason_code.value}: {issue.detail}"
    if report.rejected > ISSUES_SHOWN:
        yield f"  and {report.rejected - ISSUES_SHOWN} more"
