"""Where products stand in a store."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from stores.layout import ShelvedProduct, bins_of, lay_out


def product(sku_id: str, temperature: str = "ambient", category: str = "Snacks") -> ShelvedProduct:
    return ShelvedProduct(sku_id, temperature, category)


def test_bins_are_coded_aisle_shelf_slot() -> None:
    """A bin's code reads aisle, shelf, slot, and says what temperature is kept there."""
    codes = [place.code for place in islice(bins_of("frozen"), 100)]
    assert codes[0] == "F01-1-01"
    assert all(re.fullmatch(r"F\d\d-[1-4]-(0[1-9]|1[0-2])", code) for code in codes)
    assert len(set(codes)) == 100


def test_cold_products_are_visited_last() -> None:
    """Every ambient bin comes before every chilled one, and every chilled before every frozen."""
    placements = lay_out(
        [product(f"{t}{n}", t) for n in range(60) for t in ("frozen", "ambient", "chilled")]
    )
    walk = sorted(placements, key=lambda placement: placement.bin.walk_order)
    temperatures = [placement.bin.temperature for placement in walk]
    assert temperatures == ["ambient"] * 60 + ["chilled"] * 60 + ["frozen"] * 60


def test_the_walk_turns_round_at_the_end_of_an_aisle() -> None:
    """The second aisle begins at the slot where the first one ended, so nobody walks back empty."""
    first, second = [place.code for place in islice(bins_of("ambient"), 47, 49)]
    assert (first, second) == ("A01-4-12", "A02-1-12")


def test_a_category_stands_together() -> None:
    """Products of one category have consecutive bins, in the order in which they were given."""
    mixed = [product(f"{c}{n}", category=c) for n in range(5) for c in ("Tea", "Biscuits")]
    walk = sorted(lay_out(mixed), key=lambda placement: placement.bin.walk_order)
    assert [placement.sku_id for placement in walk] == [
        *(f"Biscuits{n}" for n in range(5)),
        *(f"Tea{n}" for n in range(5)),
    ]


def test_occupied_bins_are_passed_over() -> None:
    """A new product gets a bin that holds nothing yet."""
    taken = {place.code for place in islice(bins_of("ambient"), 3)}
    (placement,) = lay_out([product("new")], taken)
    assert placement.bin.code == "A01-4-01"


def test_an_unknown_temperature_is_refused() -> None:
    """A product that must be kept hot finds no bin, instead of a wrong one."""
    with pytest.raises(ValueError, match="hot"):
        lay_out([product("soup", "hot")])
