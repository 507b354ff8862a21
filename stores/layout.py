"""Where products stand in a dark store: pure, no I/O.

A bin holds one product.  Its code ``A03-2-05`` reads: ambient (``A``; ``C`` chilled, ``F`` frozen)
aisle 3, shelf 2 from the floor, slot 5.  Pickers walk up one aisle and down the next, ambient
first, chilled then frozen last, so that what must stay cold is the last to leave the cold.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

SLOTS_PER_AISLE = 12
SHELVES_PER_SLOT = 4
# Letter of the aisle and rank in the walk, by temperature.
_ZONES = {"ambient": ("A", 0), "chilled": ("C", 1), "frozen": ("F", 2)}
_WALK_ORDERS_PER_ZONE = 1_000_000


@dataclass(frozen=True, slots=True)
class ShelvedProduct:
    """What the layout needs to know of a product; ``category`` keeps relatives together."""

    sku_id: str
    temperature: str
    category: str


@dataclass(frozen=True, slots=True)
class Bin:
    """A place in a store; pickers visit bins in ascending ``walk_order``."""

    code: str
    temperature: str
    walk_order: int


@dataclass(frozen=True, slots=True)
class Placement:
    sku_id: str
    bin: Bin


def bins_of(temperature: str) -> Iterator[Bin]:
    """The bins of one temperature in the order of the walk, without end.

    Raises ValueError for a temperature that no store keeps.
    """
    if temperature not in _ZONES:
        raise ValueError(f"no store keeps {temperature!r}; known are {', '.join(_ZONES)}")
    letter, rank = _ZONES[temperature]
    walk_order = rank * _WALK_ORDERS_PER_ZONE
    aisle = 0
    while True:
        aisle += 1
        slots = range(1, SLOTS_PER_AISLE + 1)
        # Every other aisle is walked back.
        for slot in slots if aisle % 2 else reversed(slots):
            for shelf in range(1, SHELVES_PER_SLOT + 1):
                yield Bin(f"{letter}{aisle:02d}-{shelf}-{slot:02d}", temperature, walk_order)
                walk_order += 1


def lay_out(
    products: Iterable[ShelvedProduct], occupied: Container[str] = frozenset()
) -> list[Placement]:
    """A bin for every product: by temperature, then by category, in the order given within one.

    ``occupied``: codes of bins that hold other products already; they are passed over, so a later
    delivery of new products moves nothing.  Raises ValueError for an unknown temperature.
    """
    by_temperature: dict[str, list[ShelvedProduct]] = {}
    for product in products:
        by_temperature.setdefault(product.temperature, []).append(product)
    return [
        placement
        for temperature in sorted(by_temperature)
        for placement in _fill(temperature, by_temperature[temperature], occupied)
    ]


def _fill(
    temperature: str, products: Sequence[ShelvedProduct], occupied: Container[str]
) -> Iterator[Placement]:
    free = (place for place in bins_of(temperature) if place.code not in occupied)
    # The sort is stable: products of a category keep their order.
    ordered = sorted(products, key=lambda product: product.category)
    for product, place in zip(ordered, free, strict=False):
        yield Placement(product.sku_id, place)
