"""The assortment of the default demo: about six hundred groceries with invented brands.

`data/generated.toml` holds the templates and their grammar. Everything is a function of the
templates and the seed; `external_id` and barcode depend on the templates alone, so another seed
gives the same products at other prices, under other brands, in other quantities.
"""

import random
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Final, TypedDict, TypeVar

from catalog.model import (
    ProductDraft,
    TaxClass,
    Temperature,
    image_path,
    in_store_barcode,
    mass_label,
    piece_label,
    slug,
    volume_label,
)

# Twice the size costs 1.87 times as much: larger packs are cheaper by the kilogram.
_SIZE_EXPONENT: Final = 0.9
# Contents of 1 g/ml, and 5 % for the bottle.
_GRAMS_PER_ML: Final = 1.05
_PRICE_JITTER: Final = 0.05
_DISCOUNTS_PERCENT: Final = (0, 0, 0, 0, 5, 8, 10, 12, 15, 20)
_QUANTITY_RANGE: Final = (12, 60)
_SIZE: Final = re.compile(
    r"(?:(?P<packs>\d+) x )?(?P<amount>\d+(?:\.\d+)?) (?P<measure>g|kg|ml|l|pcs?)"
    r"(?: = (?P<grams>\d+))?"
)

_T = TypeVar("_T")


class _Item(TypedDict, total=False):
    name: str
    variants: list[str]
    sizes: list[str]
    price: int
    days: int
    also: list[str]
    brand: str
    temperature: str
    tax_class: str


class _Category(TypedDict):
    title: str
    tax_class: str
    temperature: str
    days: int
    brands: list[str]
    items: list[_Item]


@dataclass(frozen=True, slots=True)
class PackSize:
    """A size of a template: `amount` is in grams, millilitres or pieces, as it is priced."""

    unit: str
    amount: float
    weight_g: int
    volume_ml: int | None


@lru_cache(maxsize=4)
def generated_catalogue(seed: int = 7) -> tuple[ProductDraft, ...]:
    """All products of the templates, category by category; equal seeds give equal catalogues.

    Raises ValueError if the templates give two products one name or one barcode.
    """
    source = resources.files("catalog").joinpath("data/generated.toml").read_text(encoding="utf-8")
    categories: list[_Category] = tomllib.loads(source)["category"]
    products = tuple(
        product
        for category in categories
        for item in category["items"]
        for product in _products(category, item, seed)
    )
    for field in ("name", "external_id", "barcode"):
        _check_unique(field, [str(getattr(product, field)) for product in products])
    return products


def parse_size(text: str) -> PackSize:
    """`"6 x 200 ml"`, `"1.2 kg"` or `"6 pcs = 330"` (pieces and their grams).

    Raises ValueError for anything else.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    measure, packs = match["measure"], int(match["packs"] or 1)
    if measure.startswith("pc") != (match["grams"] is not None):
        raise ValueError(f"pieces, and only pieces, state their grams: {text!r}")
    scale = 1000 if measure in {"kg", "l"} else 1
    amount = round(float(match["amount"]) * scale)
    total = amount * packs
    if match["grams"] is not None:
        return PackSize(piece_label(total), total, int(match["grams"]), None)
    is_volume = measure in {"ml", "l"}
    label = volume_label(amount) if is_volume else mass_label(amount)
    return PackSize(
        unit=label if packs == 1 else f"{packs} x {label}",
        amount=total,
        weight_g=round(total * _GRAMS_PER_ML) if is_volume else total,
        volume_ml=total if is_volume else None,
    )


def shelf_price(price: float) -> int:
    """The nearest price in whole rupees that a shelf label would show; never less than 5.

    Whole rupees below 50; an ending of 5 or 9 below 200; of 9 below 1,000; of 49 or 99 above.
    """
    if price < 49.5:
        return max(5, int(price + 0.5))
    if price < 200:
        tens = int(price // 10) * 10
        endings: tuple[int, ...] = (tens - 1, tens + 5, tens + 9)
    elif price < 1000:
        tens = int(price // 10) * 10
        endings = (tens - 1, tens + 9)
    else:
        fifties = int(price // 50) * 50
        endings = (fifties - 1, fifties + 49)
    return min(endings, key=lambda ending: abs(ending - price))


def _products(category: _Category, item: _Item, seed: int) -> Iterator[ProductDraft]:
    rng = random.Random(f"{seed}:{category['title']}:{item['name']}")
    # Only random() is drawn: its sequence is the one that Python promises to keep.
    brand = item.get("brand") or (_pick(category["brands"], rng) if category["brands"] else None)
    jitter = 1 + _PRICE_JITTER * (2 * rng.random() - 1)
    discount_percent = _pick(_DISCOUNTS_PERCENT, rng)
    sizes = [parse_size(text) for text in item["sizes"]]
    shelf_life_days = item.get("days", category["days"])
    lowest, highest = _QUANTITY_RANGE
    for variant_text in item.get("variants", [""]):
        variant, _, factor = variant_text.partition(":")
        label = f"{variant} {item['name']}".strip()
        for size in sizes:
            scaled = (size.amount / sizes[0].amount) ** _SIZE_EXPONENT
            list_price = shelf_price(item["price"] * float(factor or 1) * jitter * scaled)
            price = min(list_price, shelf_price(list_price * (100 - discount_percent) / 100))
            name = f"{brand} {label}" if brand else label
            external_id = f"demo-{slug(label)}-{slug(size.unit)}"
            yield ProductDraft(
                external_id=external_id,
                name=f"{name}, {size.unit}" if len(sizes) > 1 else name,
                brand=brand,
                categories=tuple(sorted({category["title"], *item.get("also", [])})),
                unit=size.unit,
                weight_g=size.weight_g,
                volume_ml=size.volume_ml,
                tax_class=TaxClass(item.get("tax_class", category["tax_class"])),
                temperature=Temperature(item.get("temperature", category["temperature"])),
                price_minor=price * 100,
                list_price_minor=list_price * 100,
                barcode=in_store_barcode(external_id),
                image_url=image_path(label),
                shelf_life_days=shelf_life_days or None,
                initial_quantity=lowest + int(rng.random() * (highest - lowest + 1)),
            )


def _pick(choices: Sequence[_T], rng: random.Random) -> _T:
    return choices[int(rng.random() * len(choices))]


def _check_unique(field: str, values: Sequence[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"two generated products have the {field} {value!r}")
        seen.add(value)
