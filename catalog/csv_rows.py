"""From the cells of one CSV row to a candidate for a product, in both formats of csv_import.

Every rule of these functions looks at one row alone; what several rows say about one product is
the business of catalog/folding.py.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from catalog.import_report import RejectReason
from catalog.inference import infer_brand, infer_measure
from catalog.model import (
    EXTERNAL_ID_MAX_LENGTH,
    INTEGER_MAX,
    NAME_MAX_LENGTH,
    TaxClass,
    Temperature,
    image_path,
    in_store_barcode,
    is_valid_ean13,
    slug,
)

SCRAPED_COLUMNS: Final = (
    "category",
    "name",
    "mrp",
    "discountPercent",
    "availableQuantity",
    "discountedSellingPrice",
    "weightInGms",
    "outOfStock",
    "quantity",
)
OWN_REQUIRED: Final = ("external_id", "name", "categories", "unit", "weight_g", "price_minor")
OWN_OPTIONAL: Final = (
    "list_price_minor",
    "brand",
    "temperature",
    "tax_class",
    "volume_ml",
    "shelf_life_days",
    "initial_quantity",
    "barcode",
    "image_url",
)
# C0 and C1 controls but for the tab, and the marks that turn the direction of text around.
CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_SHORT_TEXT_MAX_LENGTH: Final = 80
_URL_MAX_LENGTH: Final = 500
_DISCOUNT_TOLERANCE_MINOR: Final = 100

_Choice = TypeVar("_Choice", bound=StrEnum)


class RejectedRow(Exception):
    """A row that must be left out, and why."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What one sound row says of a product; None where it is silent and folding infers."""

    line: int
    external_id: str
    name: str
    brand: str | None
    categories: tuple[str, ...]
    unit: str
    weight_g: int
    volume_ml: int | None
    tax_class: TaxClass | None
    temperature: Temperature | None
    price_minor: int
    list_price_minor: int
    barcode: str
    image_url: str
    shelf_life_days: int | None
    initial_quantity: int | None


def parse_scraped_row(line: int, cells: dict[str, str]) -> Candidate:
    """A row of the scraped assortment. Raises RejectedRow."""
    name = _text(cells, "name", NAME_MAX_LENGTH)
    category = _category(cells["category"])
    list_price_minor = _integer(cells, "mrp")
    discount_percent = _integer(cells, "discountPercent", highest=100)
    price_minor = _integer(cells, "discountedSellingPrice")
    weight_g = _integer(cells, "weightInGms")
    quantity = _integer(cells, "quantity")
    available = _integer(cells, "availableQuantity")
    if (flag := cells["outOfStock"].upper()) not in {"TRUE", "FALSE"}:
        raise RejectedRow(RejectReason.UNKNOWN_VALUE, f"outOfStock is {_shown(flag)}")
    _check_prices(price_minor, list_price_minor)
    expected_minor_x100 = list_price_minor * (100 - discount_percent)
    if abs(expected_minor_x100 - 100 * price_minor) > 100 * _DISCOUNT_TOLERANCE_MINOR:
        raise RejectedRow(
            RejectReason.DISCOUNT_MISMATCH,
            f"{list_price_minor} less {discount_percent} % is {expected_minor_x100 / 100:.0f}, "
            f"but the row asks {price_minor}",
        )
    _check_weight(weight_g)
    measure = infer_measure(name, weight_g=weight_g, quantity=quantity)
    external_id = _natural_key(name, weight_g, quantity)
    return Candidate(
        line=line,
        external_id=external_id,
        name=name,
        brand=infer_brand(name),
        categories=(category,),
        unit=measure.unit,
        weight_g=weight_g,
        volume_ml=measure.volume_ml,
        tax_class=None,
        temperature=None,
        price_minor=price_minor,
        list_price_minor=list_price_minor,
        barcode=in_store_barcode(external_id),
        image_url=image_path(name),
        shelf_life_days=None,
        # A row that is flagged as out of stock sells nothing, whatever number it carries.
        initial_quantity=0 if flag == "TRUE" else available,
    )


def parse_own_row(line: int, cells: dict[str, str]) -> Candidate:
    """A row of the own format. Raises RejectedRow."""
    cells = dict.fromkeys(OWN_OPTIONAL, "") | cells
    external_id = _text(cells, "external_id", EXTERNAL_ID_MAX_LENGTH)
    name = _text(cells, "name", NAME_MAX_LENGTH)
    titles = [title for title in cells["categories"].split("|") if title.strip()]
    if not titles:
        raise RejectedRow(RejectReason.MISSING_VALUE, "categories is empty")
    price_minor = _integer(cells, "price_minor")
    list_price_minor = (
        _integer(cells, "list_price_minor") if cells["list_price_minor"] else price_minor
    )
    _check_prices(price_minor, list_price_minor)
    weight_g = _integer(cells, "weight_g")
    _check_weight(weight_g)
    barcode = cells["barcode"] or in_store_barcode(external_id)
    if not is_valid_ean13(barcode):
        raise RejectedRow(RejectReason.UNKNOWN_VALUE, f"{_shown(barcode)} is not an EAN-13")
    return Candidate(
        line=line,
        external_id=external_id,
        name=name,
        brand=_text(cells, "brand", _SHORT_TEXT_MAX_LENGTH)
        if cells["brand"]
        else infer_brand(name),
        categories=tuple(_category(title) for title in titles),
        unit=_text(cells, "unit", _SHORT_TEXT_MAX_LENGTH),
        weight_g=weight_g,
        volume_ml=_optional_positive(cells, "volume_ml"),
        tax_class=_choice(cells, "tax_class", TaxClass),
        temperature=_choice(cells, "temperature", Temperature),
        price_minor=price_minor,
        list_price_minor=list_price_minor,
        barcode=barcode,
        image_url=_text(cells, "image_url", _URL_MAX_LENGTH)
        if cells["image_url"]
        else image_path(name),
        shelf_life_days=_optional_positive(cells, "shelf_life_days"),
        initial_quantity=_integer(cells, "initial_quantity") if cells["initial_quantity"] else None,
    )


def _natural_key(name: str, weight_g: int, quantity: int) -> str:
    """A readable part, which may be shared, and a digest of the exact key, which is not."""
    folded = unicodedata.normalize("NFKC", name).casefold().replace("’", "'")
    digest = hashlib.sha256(f"{folded}\n{weight_g}\n{quantity}".encode()).hexdigest()[:12]
    return f"{slug(folded)[:80].strip('-')}-{weight_g}-{digest}".lstrip("-")


def _text(cells: dict[str, str], column: str, max_length: int) -> str:
    """The cell with runs of spaces made one, and quotes that enclose all of it dropped."""
    text = unicodedata.normalize("NFC", " ".join(cells[column].split()))
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    text = text.rstrip(" |,;")
    if not text:
        raise RejectedRow(RejectReason.MISSING_VALUE, f"{column} is empty")
    if len(text) > max_length:
        raise RejectedRow(
            RejectReason.TOO_LONG, f"{column} has {len(text)} characters, at most {max_length}"
        )
    return text


def _category(title: str) -> str:
    category = _text({"category": title}, "category", _SHORT_TEXT_MAX_LENGTH)
    if not any(character.isalnum() for character in category):
        raise RejectedRow(RejectReason.UNKNOWN_VALUE, f"category {_shown(category)} has no letter")
    return category


def _integer(cells: dict[str, str], column: str, *, highest: int = INTEGER_MAX) -> int:
    text = cells[column]
    if not text:
        raise RejectedRow(RejectReason.MISSING_VALUE, f"{column} is empty")
    if _INTEGER.fullmatch(text) is None:
        raise RejectedRow(RejectReason.NOT_AN_INTEGER, f"{column} is {_shown(text)}")
    if text.startswith("-") and text.strip("-0"):
        raise RejectedRow(RejectReason.NEGATIVE_NUMBER, f"{column} is {_shown(text)}")
    # Digits are counted first: converting a number of a million digits is not free.
    if len(text.lstrip("+-0")) > len(str(highest)) or int(text) > highest:
        raise RejectedRow(
            RejectReason.OUT_OF_RANGE, f"{column} is {_shown(text)}, at most {highest}"
        )
    return int(text)


def _optional_positive(cells: dict[str, str], column: str) -> int | None:
    if not cells[column]:
        return None
    if (number := _integer(cells, column)) == 0:
        raise RejectedRow(RejectReason.OUT_OF_RANGE, f"{column} is 0, at least 1")
    return number


def _choice(cells: dict[str, str], column: str, choices: type[_Choice]) -> _Choice | None:
    if not cells[column]:
        return None
    try:
        return choices(cells[column].lower())
    except ValueError as error:
        known = ", ".join(choices)
        raise RejectedRow(
            RejectReason.UNKNOWN_VALUE, f"{column} is {_shown(cells[column])}, not one of {known}"
        ) from error


def _check_prices(price_minor: int, list_price_minor: int) -> None:
    if price_minor == 0 or list_price_minor == 0:
        raise RejectedRow(
            RejectReason.ZERO_PRICE, f"price {price_minor}, list price {list_price_minor}"
        )
    if price_minor > list_price_minor:
        raise RejectedRow(
            RejectReason.PRICE_ABOVE_LIST, f"price {price_minor}, list price {list_price_minor}"
        )


def _check_weight(weight_g: int) -> None:
    if weight_g == 0:
        raise RejectedRow(RejectReason.ZERO_WEIGHT, "the weight is 0")


def _shown(text: str) -> str:
    """A cell as it may stand in a log line: ASCII, quoted, short."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
