"""What an import of a catalogue came to: its products, and every row that was left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from catalog.model import ProductDraft


class RejectReason(StrEnum):
    """Why a row was left out; stable codes."""

    MALFORMED_ROW = "malformed_row"  # quotes do not match, or the line is too long
    BAD_ENCODING = "bad_encoding"
    CONTROL_CHARACTER = "control_character"  # NUL, escape, text direction overrides
    COLUMN_COUNT = "column_count"
    MISSING_VALUE = "missing_value"
    TOO_LONG = "too_long"
    NOT_AN_INTEGER = "not_an_integer"
    NEGATIVE_NUMBER = "negative_number"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_VALUE = "unknown_value"  # flag, temperature, tax class or barcode
    ZERO_PRICE = "zero_price"
    PRICE_ABOVE_LIST = "price_above_list"
    DISCOUNT_MISMATCH = "discount_mismatch"  # by more than one rupee
    ZERO_WEIGHT = "zero_weight"
    PRICE_CONFLICT = "price_conflict"  # rows of one product with different prices
    PRODUCT_CONFLICT = "product_conflict"  # rows of one key that describe different products
    BARCODE_CONFLICT = "barcode_conflict"  # the barcode belongs to a product further up


@dataclass(frozen=True, slots=True)
class RowIssue:
    """A row that was left out: its line in the file (the header is line 1), and why."""

    line: int
    reason_code: RejectReason
    detail: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """Counts and issues of one import; `rows == products + folded + rejected`.

    `folded` rows repeat a product that another row stands for; `out_of_stock` products have a
    stated quantity of 0; `issues` stand in line order, one for each rejected row.
    """

    rows: int
    products: int
    folded: int
    out_of_stock: int
    rejected_by_reason: Mapping[RejectReason, int]
    issues: tuple[RowIssue, ...]

    def __post_init__(self) -> None:
        assert self.rows == self.products + self.folded + self.rejected
        assert len(self.issues) == self.rejected

    @property
    def rejected(self) -> int:
        """How many rows were left out."""
        return sum(self.rejected_by_reason.values())


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The products of a file, in the order of first appearance, and the report on its rows."""

    products: tuple[ProductDraft, ...]
    report: ImportReport
