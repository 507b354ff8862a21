"""Read a catalogue of products from a CSV file, and report every row that was left out.

Two formats, told apart by the header (the order and letter case of columns are free; a column
that is not listed is refused, since it may be a misspelt one):

**Scraped assortment** (`category, name, mrp, discountPercent, availableQuantity,
discountedSellingPrice, weightInGms, outOfStock, quantity`; prices in minor units). One row a
product *and category*: rows of one product fold into one with several categories. The natural key
is name (case, width and spaces aside), weight and quantity. Brand, temperature, tax class, unit
and volume are inferred (catalog/inference.py).

**Own format**, one column a field of `ProductDraft`:

| column | | |
| --- | --- | --- |
| `external_id` | needed | natural key, at most 120 characters |
| `name` | needed | at most 200 characters |
| `categories` | needed | titles separated by a vertical bar |
| `unit` | needed | `500 g`, `6 x 200 ml` |
| `weight_g` | needed | more than 0 |
| `price_minor` | needed | more than 0, tax included |
| `list_price_minor` | | else the price |
| `brand`, `temperature`, `tax_class` | | else inferred |
| `volume_ml`, `shelf_life_days` | | more than 0, else unknown |
| `initial_quantity` | | 0 or more, else unknown |
| `barcode` | | EAN-13, else one of the in-store range |
| `image_url` | | else a relative path made from the name |

Nothing is guessed about money: a row whose prices contradict each other is left out, and so is
*every* row of a product whose rows name different prices. Rows that fold and differ in stock count
the smallest. A record is one line, so a quote that is never closed costs one row, not the rest of
the file. A weight of 0 is left out: a trip is planned by what its orders weigh.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from catalog.csv_rows import (
    CONTROL_CHARACTERS,
    OWN_OPTIONAL,
    OWN_REQUIRED,
    SCRAPED_COLUMNS,
    Candidate,
    RejectedRow,
    parse_own_row,
    parse_scraped_row,
)
from catalog.folding import fold_candidates
from catalog.import_report import ImportReport, ImportResult, RejectReason, RowIssue

__all__ = [
    "ImportReport",
    "ImportResult",
    "RejectReason",
    "RowIssue",
    "UnknownFormat",
    "read_catalogue",
]

LINE_MAX_BYTES: Final = 64 * 1024
# A progress bar needs no more than a few hundred steps on any file worth one.
_LINES_PER_PROGRESS: Final = 256


class UnknownFormat(ValueError):
    """The file is empty, or its header is neither of the two that are understood."""


def read_catalogue(
    path: str | Path, *, on_progress: Callable[[int, int], None] | None = None
) -> ImportResult:
    """Every sound product of the CSV file at `path`, in the order of first appearance.

    `on_progress(done_bytes, total_bytes)` is called as the file is read, and once at its end.
    Raises UnknownFormat (a ValueError) for an empty file or a header that is not understood, and
    OSError if the file cannot be read. Bad rows raise nothing: they are in the report, which
    accounts for each row: `rows == products + folded + rejected`.
    """
    path = Path(path)
    rows = 0
    candidates: list[Candidate] = []
    issues: list[RowIssue] = []
    total_bytes = path.stat().st_size
    with path.open("rb") as file:
        columns, parse_row = _read_header(file.readline(LINE_MAX_BYTES))
        for line, raw_line in _data_lines(file):
            if on_progress is not None and line % _LINES_PER_PROGRESS == 0:
                on_progress(min(file.tell(), total_bytes), total_bytes)
            if raw_line.isspace():
                continue
            rows += 1
            try:
                candidates.append(parse_row(line, _split_row(raw_line, columns)))
            except RejectedRow as rejection:
                issues.append(RowIssue(line, rejection.reason, rejection.detail))
    folded = fold_candidates(candidates)
    issues.extend(folded.issues)
    issues.sort(key=lambda issue: issue.line)
    if on_progress is not None:
        on_progress(total_bytes, total_bytes)
    report = ImportReport(
        rows=rows,
        products=len(folded.products),
        folded=rows - len(issues) - len(folded.products),
        out_of_stock=sum(product.initial_quantity == 0 for product in folded.products),
        rejected_by_reason=dict(sorted(Counter(issue.reason_code for issue in issues).items())),
        issues=tuple(issues),
    )
    return ImportResult(folded.products, report)


def _data_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(line number, bytes) after the header; of a line too long only its first part is kept."""
    line = 1
    while raw_line := file.readline(LINE_MAX_BYTES + 1):
        line += 1
        rest = raw_line
        while len(rest) > LINE_MAX_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(LINE_MAX_BYTES + 1)
        yield line, raw_line


def _split_row(raw_line: bytes, columns: tuple[str, ...]) -> dict[str, str]:
    """One record as column → stripped text. Raises RejectedRow."""
    if len(raw_line) > LINE_MAX_BYTES:
        raise RejectedRow(RejectReason.MALFORMED_ROW, f"longer than {LINE_MAX_BYTES} bytes")
    try:
        text = raw_line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise RejectedRow(
            RejectReason.BAD_ENCODING, f"byte {error.start + 1} of the line is not UTF-8"
        ) from error
    if (control := CONTROL_CHARACTERS.search(text)) is not None:
        raise RejectedRow(
            RejectReason.CONTROL_CHARACTER,
            f"U+{ord(control.group()):04X} at character {control.start() + 1}",
        )
    try:
        cells = _parse_csv_line(text)
    except csv.Error as error:
        raise RejectedRow(RejectReason.MALFORMED_ROW, str(error)) from error
    if len(cells) != len(columns):
        raise RejectedRow(
            RejectReason.COLUMN_COUNT, f"{len(cells)} columns instead of {len(columns)}"
        )
    return dict(zip(columns, (cell.strip() for cell in cells), strict=True))


def _read_header(
    raw_line: bytes,
) -> tuple[tuple[str, ...], Callable[[int, dict[str, str]], Candidate]]:
    """The columns in order, and the parser of the format that they are. Raises UnknownFormat."""
    if not raw_line.strip():
        raise UnknownFormat(f"no header in the first line; {_expected()}")
    try:
        cells = _parse_csv_line(raw_line.decode("utf-8-sig").rstrip("\r\n"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnknownFormat(f"the header is not CSV in UTF-8 ({error}); {_expected()}") from error
    found = tuple(cell.strip().lower() for cell in cells)
    if len(set(found)) == len(found):
        canonical = {column.lower(): column for column in SCRAPED_COLUMNS}
        if set(found) == set(canonical):
            return tuple(canonical[column] for column in found), parse_scraped_row
        if set(OWN_REQUIRED) <= set(found) <= {*OWN_REQUIRED, *OWN_OPTIONAL}:
            return found, parse_own_row
    shown = ", ".join(ascii(cell)[1:-1] for cell in cells)[:500]
    raise UnknownFormat(f"unknown columns; {_expected()}; found: {shown}")


def _parse_csv_line(text: str) -> list[str]:
    return next(csv.reader((text,), strict=True), [])


def _expected() -> str:
    return (
        f"expected either all of: {', '.join(SCRAPED_COLUMNS)}; "
        f"or: {', '.join(OWN_REQUIRED)}, and if wanted {', '.join(OWN_OPTIONAL)}"
    )
