"""The people of a seeded city: made-up names, log-ins at a domain that can never exist.

Log-ins are numbered, so a second seed finds those of the first.  ``.example`` is reserved for
documentation (RFC 2606).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from identity.model import Role

DOMAIN: Final = "darkstore.example"

_FIRST_NAMES: Final = (
    "Adanu", "Belim", "Corvan", "Dimara", "Eshani", "Farol", "Gavia", "Hemal", "Ilsara", "Jorim",
    "Kavela", "Lutha", "Mirak", "Nolani", "Orvin", "Parisa", "Quenda", "Ravino", "Selmi", "Tavish",
    "Umari", "Vesna", "Wirel", "Xandra", "Yarim", "Zelika",
)  # fmt: skip
_LAST_NAMES: Final = (
    "Ambrel", "Brannoc", "Castov", "Dellory", "Erskan", "Fenwali", "Gorimath", "Hallenu",
    "Inverno", "Jastrow", "Kandell", "Lorivar", "Mohenda", "Narvik", "Ostrela", "Pellucid",
    "Quarrel", "Rosmeru", "Sandivar", "Tolvane", "Ulmarin", "Verrano", "Westrick", "Yolanda",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vehicle:
    """What a rider rides, and what it carries."""

    name: str
    capacity_orders: int
    capacity_g: int


_SCOOTER: Final = Vehicle("scooter", 4, 25_000)
_LIGHT_SCOOTER: Final = Vehicle("scooter", 3, 18_000)
_BICYCLE: Final = Vehicle("bicycle", 2, 12_000)
_FLEET: Final = (_SCOOTER, _SCOOTER, _LIGHT_SCOOTER, _SCOOTER, _BICYCLE, _LIGHT_SCOOTER)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody to create; ``n`` numbers the people of one role and place from 1."""

    role: Role
    name: str
    email: str
    store_id: str | None = None
    city_id: str | None = None
    vehicle: Vehicle | None = None


def staff_of(
    city_id: str,
    city_slug: str,
    store_ids: list[str],
    *,
    riders: int,
    pickers_per_store: int,
    seed: int,
) -> list[Person]:
    """Everybody whom a city needs: admin, ops, support, a manager and pickers a store, riders.

    Admin is one for all cities.  The same arguments give the same people.
    """
    names = _names(seed)
    people = [
        Person(Role.ADMIN, "Admin", f"admin@{DOMAIN}"),
        Person(Role.OPS, next(names), f"ops.{city_slug}@{DOMAIN}", city_id=city_id),
        Person(Role.SUPPORT, next(names), f"support.{city_slug}@{DOMAIN}", city_id=city_id),
    ]
    for n, store_id in enumerate(store_ids, start=1):
        at = f"store{n}.{city_slug}@{DOMAIN}"
        people.append(Person(Role.STORE_MANAGER, next(names), f"manager.{at}", store_id, city_id))
        people += [
            Person(Role.PICKER, next(names), f"picker{k}.{at}", store_id, city_id)
            for k in range(1, pickers_per_store + 1)
        ]
    people += [
        Person(
            Role.RIDER,
            next(names),
            f"rider{k}.{city_slug}@{DOMAIN}",
            city_id=city_id,
            vehicle=_FLEET[k % len(_FLEET)],
        )
        for k in range(1, riders + 1)
    ]
    return people


def _names(seed: int) -> Iterator[str]:
    """Names without end, each once before any comes twice."""
    pairs = [f"{first} {last}" for first in _FIRST_NAMES for last in _LAST_NAMES]
    random.Random(f"people:{seed}").shuffle(pairs)
    return cycle(pairs)
