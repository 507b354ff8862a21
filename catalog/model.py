"""What a product is, before any store sells it: pure values, no I/O.

Money is in integer minor units (paise, cents); prices include tax, as the printed maximum retail
price does. `TAX_RATE_BP` gives the rate of each tax class in basis points (1 bp = 0.01 %).
Barcodes are EAN-13: GS1 General Specifications, section 7.9 (check digit) and 1.4 (prefixes
200–299 are for use inside a company and never clash with a manufacturer's number).
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

NAME_MAX_LENGTH: Final = 200
EXTERNAL_ID_MAX_LENGTH: Final = 120
# Every number of a product fits a 32-bit column.
INTEGER_MAX: Final = 2**31 - 1


class TaxClass(StrEnum):
    """How a product is taxed; the rates follow the shape of the Indian goods and services tax."""

    EXEMPT = "exempt"
    REDUCED = "reduced"
    INTERMEDIATE = "intermediate"
    STANDARD = "standard"


TAX_RATE_BP: Final[Mapping[TaxClass, int]] = MappingProxyType(
    {
        TaxClass.EXEMPT: 0,
        TaxClass.REDUCED: 500,
        TaxClass.INTERMEDIATE: 1_200,
        TaxClass.STANDARD: 1_800,
    }
)


class Temperature(StrEnum):
    """Where a product must be kept; pickers collect chilled and frozen ones last."""

    AMBIENT = "ambient"
    CHILLED = "chilled"
    FROZEN = "frozen"


def slug(text: str) -> str:
    """`"Fruits & Vegetables"` → `"fruits-vegetables"`: lower-case ASCII words joined by hyphens.

    Accents and apostrophes are dropped (`"Chef's Crème"` → `"chefs-creme"`). Text without a single
    ASCII letter or digit gives an empty string.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return "-".join(re.findall(r"[a-z0-9]+", ascii_text.lower().replace("'", "")))


@dataclass(frozen=True, slots=True)
class Category:
    """A shelf of the shop: `slug` identifies it, `title` is shown."""

    slug: str
    title: str

    @classmethod
    def of(cls, title: str) -> "Category":
        """The category of a title. Raises ValueError if the title has no letter or digit."""
        # A title in another script has no ASCII slug: its digest identifies it.
        title = " ".join(title.split())
        if not any(character.isalnum() for character in title):
            raise ValueError(f"a category needs a letter or a digit: {title!r}")
        return cls(slug=slug(title) or "c-" + _digest(title.casefold())[:12], title=title)


def ean13(body: str) -> str:
    """`body` (12 digits) with its check digit. Raises ValueError for anything else.

    Weights alternate 1 and 3 from the left; the check digit brings the sum to a multiple of 10.
    """
    if len(body) != 12 or not (body.isascii() and body.isdigit()):
        raise ValueError(f"an EAN-13 body is 12 digits, not {body!r}")
    weighted_sum = sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(body))
    return f"{body}{-weighted_sum % 10}"


def is_valid_ean13(barcode: str) -> bool:
    """Whether `barcode` is 13 digits of which the last is the right check digit."""
    if len(barcode) != 13 or not (barcode.isascii() and barcode.isdigit()):
        return False
    return ean13(barcode[:12]) == barcode


def in_store_barcode(external_id: str) -> str:
    """The EAN-13 of a product without one: prefix 2, then 11 digits from SHA-256 of its key.

    The same key gives the same barcode for ever. Of 10**11 numbers, 10,000 products share one
    with a probability of 0.05 %: importers check.
    """
    return ean13(f"2{int(_digest(external_id), 16) % 10**11:011d}")


def mass_label(weight_g: int) -> str:
    """`500` → `"500 g"`, `1000` → `"1 kg"`, `1200` → `"1.2 kg"`."""
    return f"{weight_g / 1000:.10g} kg" if weight_g >= 1000 else f"{weight_g} g"


def volume_label(volume_ml: int) -> str:
    """`330` → `"330 ml"`, `1500` → `"1.5 l"`."""
    return f"{volume_ml / 1000:.10g} l" if volume_ml >= 1000 else f"{volume_ml} ml"


def piece_label(pieces: int) -> str:
    """`1` → `"1 pc"`, `6` → `"6 pcs"`."""
    return "1 pc" if pieces == 1 else f"{pieces} pcs"


def image_path(name: str) -> str:
    """Where the picture of a product would be served, relative to the shop's own address."""
    return f"/images/products/{slug(name) or _digest(name)[:12]}.svg"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductDraft:
    """A product as an importer hands it over; invariants are asserted, not repaired.

    `external_id` is the natural key: a second import of the same file yields the same ids, so it
    changes nothing. `categories` are titles, sorted, without repeats (`Category.of` gives slugs).
    `weight_g` is what a rider carries for one unit. `price_minor` is the selling price and
    `list_price_minor` the maximum retail price, both with tax. `initial_quantity` is the stock
    that the source states, None where it states none.
    """

    external_id: str
    name: str
    brand: str | None
    categories: tuple[str, ...]
    unit: str
    weight_g: int
    volume_ml: int | None
    tax_class: TaxClass
    temperature: Temperature
    price_minor: int
    list_price_minor: int
    barcode: str
    image_url: str
    shelf_life_days: int | None
    initial_quantity: int | None

    def __post_init__(self) -> None:
        assert 0 < len(self.external_id) <= EXTERNAL_ID_MAX_LENGTH, self.external_id
        assert 0 < len(self.name) <= NAME_MAX_LENGTH, self.external_id
        assert self.categories, self.external_id
        assert self.categories == tuple(sorted(set(self.categories))), self.external_id
        assert 0 < self.weight_g <= INTEGER_MAX, self.external_id
        assert 0 < self.price_minor <= self.list_price_minor <= INTEGER_MAX, self.external_id
        assert self.volume_ml is None or self.volume_ml > 0, self.external_id
        assert self.shelf_life_days is None or self.shelf_life_days > 0, self.external_id
        assert self.initial_quantity is None or self.initial_quantity >= 0, self.external_id
        assert is_valid_ean13(self.barcode), self.external_id


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
