"""Create the staff and riders of a seeded city who are not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from identity.model import Role
from identity.passwords import Passwords
from identity.service import create_staff
from identity.settings import Argon2Settings
from identity.tables import users
from kit.ids import new_id
from riders.tables import riders
from server.seed_people import Person
from server.seed_report import LogIn, Progress, SeededPerson

# Every log-in of the seed has a random password of 80 bits, which no speed of guessing finds, so
# the cheapest sound hash will do; it is renewed at full cost when its owner first logs in.
_CHEAP_HASH: Final = Argon2Settings(time_cost=1, memory_cost_kib=7 * 1024)


async def hire(
    conn: AsyncConnection, people: Sequence[Person], on_progress: Progress
) -> list[SeededPerson]:
    """Everybody, with a password for those who are new; all of them or nobody."""
    known = await _known(conn, people)
    passwords = Passwords(_CHEAP_HASH)
    seeded: list[SeededPerson] = []
    for n, person in enumerate(people):
        on_progress("people", n, len(people))
        found = known.get(person.email.lower())
        if found is None:
            found = await _create(conn, passwords, person)
        seeded.append(found)
    on_progress("people", len(people), len(people))
    return seeded


async def _known(conn: AsyncConnection, people: Sequence[Person]) -> dict[str, SeededPerson]:
    by_email = {person.email.lower(): person for person in people}
    query = (
        select(users.c.id, users.c.email, users.c.name, riders.c.id.label("rider_id"))
        .join_from(users, riders, users.c.id == riders.c.user_id, isouter=True)
        .where(users.c.email.in_(by_email))
    )
    return {
        row.email.lower(): SeededPerson(
            replace(by_email[row.email.lower()], name=row.name),
            LogIn(row.id, row.email, None),
            row.rider_id,
        )
        for row in await conn.execute(query)
    }


async def _create(conn: AsyncConnection, passwords: Passwords, person: Person) -> SeededPerson:
    log_in = await create_staff(
        conn,
        passwords,
        role=person.role,
        name=person.name,
        email=person.email,
        store_ids=[] if person.store_id is None else [person.store_id],
        city_ids=[] if person.city_id is None else [person.city_id],
    )
    rider_id = None
    if person.role is Role.RIDER:
        assert person.vehicle is not None, "a rider rides something"
        rider_id = new_id("rdr")
        await conn.execute(
            insert(riders).values(
                id=rider_id,
                user_id=log_in.user_id,
                city_id=person.city_id,
                name=person.name,
                vehicle=person.vehicle.name,
                capacity_orders=person.vehicle.capacity_orders,
                capacity_g=person.vehicle.capacity_g,
            )
        )
    return SeededPerson(person, LogIn(log_in.user_id, log_in.email, log_in.password), rider_id)
