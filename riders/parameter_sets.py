"""Named dispatch parameters of a city, and the experiment that compares two of them.

A set says what it changes in the parameters that the program comes with.  The set named
``default`` changes nothing, is always there and is not a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.compare import Experiment, Unit
from dispatch.decision import DEFAULT_SET
from dispatch.overrides import Value, with_overrides
from dispatch.parameters import Parameters
from kit.errors import Conflict, Invalid, NotFound
from kit.ids import new_id
from riders.decision_tables import dispatch_experiments as experiments
from riders.decision_tables import dispatch_parameter_sets as sets

NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")

Overrides = Mapping[str, Value]


class ParametersInvalid(Invalid):
    code = "dispatch_parameters_invalid"
    title = "These dispatch parameters are not possible"


class ExperimentRunning(Conflict):
    code = "dispatch_comparison_running"
    title = "The city compares two parameter sets already"


class SetInUse(Conflict):
    code = "dispatch_parameter_set_in_use"
    title = "The city plans with this parameter set"


@dataclass(frozen=True, slots=True)
class Running:
    """An experiment of a city with what each of its sets changes."""

    id: str
    city_id: str
    experiment: Experiment
    overrides: Mapping[str, Overrides]
    started_at: datetime
    ended_at: datetime | None


def check_overrides(overrides: Overrides) -> None:
    """Raises ParametersInvalid for a parameter that does not exist or may not have this value."""
    try:
        with_overrides(Parameters(), overrides)
    except ValueError as error:
        text = str(error)
        raise ParametersInvalid(f"{text[:1].upper()}{text[1:]}.") from None


async def of_city(conn: AsyncConnection, city_id: str) -> list[Any]:
    """The rows of a city's sets, by name."""
    query = select(sets).where(sets.c.city_id == city_id).order_by(sets.c.name)
    return list((await conn.execute(query)).all())


async def put(
    conn: AsyncConnection,
    city_id: str,
    name: str,
    overrides: Overrides,
    note: str,
    actor: str,
    now: datetime,
) -> Any:
    """Make or replace a set; the row.  Raises ParametersInvalid."""  # fmt: skip
    if name == DEFAULT_SET or NAME.fullmatch(name) is None:
        raise ParametersInvalid(
            "Name it with up to 40 small letters, digits, - or _; 'default' is taken."
        )
    check_overrides(overrides)
    values = {
        "overrides": dict(overrides), "note": note, "updated_at": now, "updated_by": actor,
    }  # fmt: skip
    statement = upsert(sets).values(city_id=city_id, name=name, **values)
    return (
        await conn.execute(
            statement.on_conflict_do_update(
                index_elements=[sets.c.city_id, sets.c.name],
                set_={**values, "version": sets.c.version + 1},
            ).returning(sets)
        )
    ).one()


async def remove(conn: AsyncConnection, city_id: str, name: str) -> Any:
    """Delete a set; its row.  Raises NotFound, SetInUse."""
    row = await _row(conn, city_id, name)
    if row.in_use:
        raise SetInUse("Let the city plan with another set first, for example 'default'.")
    await conn.execute(delete(sets).where(sets.c.city_id == city_id, sets.c.name == name))
    return row


async def use(conn: AsyncConnection, city_id: str, name: str) -> str:
    """Let the city plan with a set from now on; the name of the one before.  Raises NotFound."""
    before = await in_use(conn, city_id)
    if name != DEFAULT_SET:
        await _row(conn, city_id, name)
    await conn.execute(
        update(sets).where(sets.c.city_id == city_id, sets.c.in_use).values(in_use=False)
    )
    await conn.execute(
        update(sets).where(sets.c.city_id == city_id, sets.c.name == name).values(in_use=True)
    )
    return before


async def in_use(conn: AsyncConnection, city_id: str) -> str:
    """The name of the set with which the city plans, as long as nothing is compared."""
    found = await conn.scalar(
        select(sets.c.name).where(sets.c.city_id == city_id, sets.c.in_use).with_for_update()
    )
    return DEFAULT_SET if found is None else str(found)


async def overrides_of(conn: AsyncConnection, city_id: str, name: str) -> Overrides:
    """What a set changes.  Raises NotFound."""
    if name == DEFAULT_SET:
        return {}
    found: Overrides = (await _row(conn, city_id, name)).overrides
    return found


async def _row(conn: AsyncConnection, city_id: str, name: str) -> Any:
    query = select(sets).where(sets.c.city_id == city_id, sets.c.name == name).with_for_update()
    row = (await conn.execute(query)).first()
    if row is None:
        raise NotFound("There is no such parameter set in this city.")
    return row


async def start(
    conn: AsyncConnection, city_id: str, experiment: Experiment, actor: str, now: datetime
) -> Running:
    """Begin to compare two sets.  Raises NotFound for a set, ExperimentRunning."""
    overrides = {
        name: await overrides_of(conn, city_id, name)
        for name in (experiment.control, experiment.treatment)
    }
    try:
        # A savepoint: the caller's transaction has to stay usable for the answer.
        async with conn.begin_nested():
            row = (
                await conn.execute(
                    insert(experiments)
                    .values(
                        id=new_id("dex"), city_id=city_id, control=experiment.control,
                        treatment=experiment.treatment,
                        control_overrides=dict(overrides[experiment.control]),
                        treatment_overrides=dict(overrides[experiment.treatment]),
                        unit=experiment.unit.value, store_ids=sorted(experiment.store_ids),
                        window_s=round(experiment.window_s),
                        washout_s=round(experiment.washout_s), seed=experiment.seed,
                        started_at=now, started_by=actor,
                    )
                    .returning(experiments)
                )
            ).one()  # fmt: skip
    except IntegrityError:
        raise ExperimentRunning("End the comparison that runs in this city first.") from None
    return _running(row)


async def end(conn: AsyncConnection, city_id: str, actor: str, now: datetime) -> Running:
    """End the comparison of a city; both sets stay.  Raises NotFound."""
    row = (
        await conn.execute(
            update(experiments)
            .where(experiments.c.city_id == city_id, experiments.c.ended_at.is_(None))
            .values(ended_at=now, ended_by=actor)
            .returning(experiments)
        )
    ).first()
    if row is None:
        raise NotFound("No comparison runs in this city.")
    return _running(row)


async def running(conn: AsyncConnection, city_id: str) -> Running | None:
    """The comparison that runs in a city."""
    query = select(experiments).where(
        experiments.c.city_id == city_id, experiments.c.ended_at.is_(None)
    )
    row = (await conn.execute(query)).first()
    return None if row is None else _running(row)


async def latest(conn: AsyncConnection, city_id: str, experiment_id: str | None) -> Running:
    """A comparison of a city, the newest if none is named.  Raises NotFound."""
    query = select(experiments).where(experiments.c.city_id == city_id)
    if experiment_id is not None:
        query = query.where(experiments.c.id == experiment_id)
    query = query.order_by(experiments.c.started_at.desc(), experiments.c.id.desc()).limit(1)
    row = (await conn.execute(query)).first()
    if row is None:
        raise NotFound("Nothing was compared in this city.")
    return _running(row)


def _running(row: Any) -> Running:
    return Running(
        id=row.id,
        city_id=row.city_id,
        experiment=Experiment(
            control=row.control,
            treatment=row.treatment,
            unit=Unit(row.unit),
            started_at_s=row.started_at.timestamp(),
            window_s=row.window_s,
            washout_s=row.washout_s,
            seed=row.seed,
            store_ids=frozenset(row.store_ids),
        ),
        overrides={row.control: row.control_overrides, row.treatment: row.treatment_overrides},
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
