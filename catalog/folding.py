"""Fold the rows of one product into one draft, and leave out products whose rows disagree."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from catalog.csv_rows import Candidate
from catalog.import_report import RejectReason, RowIssue
from catalog.inference import infer_tax_class, infer_temperature
from catalog.model import Category, ProductDraft


@dataclass(frozen=True, slots=True)
class Folded:
    """The products in order of first appearance, and an issue for each row left out."""

    products: tuple[ProductDraft, ...]
    issues: tuple[RowIssue, ...]


def fold_candidates(candidates: Iterable[Candidate]) -> Folded:
    """One product for each `external_id`, with the categories of all its rows.

    Rows that differ in price reject the whole product (`price_conflict`): any choice would be a
    guess, and which row came first is no reason. So do rows that differ in anything else but
    categories and stock (`product_conflict`). A barcode that a product further up already has
    rejects the later product. The outcome does not depend on the order of a product's rows, but
    for the spelling of its name, which is the first row's.
    """
    by_id: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_id.setdefault(candidate.external_id, []).append(candidate)
    title_by_slug: dict[str, str] = {}
    id_by_barcode: dict[str, str] = {}
    products: list[ProductDraft] = []
    issues: list[RowIssue] = []
    for external_id, rows in by_id.items():
        conflict = _conflict(rows)
        if conflict is None:
            owner_id = id_by_barcode.setdefault(rows[0].barcode, external_id)
            if owner_id == external_id:
                products.append(_draft(rows, title_by_slug))
                continue
            conflict = (
                RejectReason.BARCODE_CONFLICT,
                f"barcode {rows[0].barcode} is that of {owner_id!a}",
            )
        issues.extend(RowIssue(row.line, *conflict) for row in rows)
    return Folded(tuple(products), tuple(issues))


def _conflict(rows: Sequence[Candidate]) -> tuple[RejectReason, str] | None:
    first = rows[0]
    for row in rows:
        if (row.price_minor, row.list_price_minor) != (first.price_minor, first.list_price_minor):
            return (
                RejectReason.PRICE_CONFLICT,
                f"line {first.line} asks {first.price_minor} of {first.list_price_minor}, "
                f"line {row.line} asks {row.price_minor} of {row.list_price_minor}",
            )
    for row in rows:
        if _description(row) != _description(first):
            return (
                RejectReason.PRODUCT_CONFLICT,
                f"lines {first.line} and {row.line} describe different products under one key",
            )
    return None


def _description(row: Candidate) -> tuple[object, ...]:
    """What the rows of one product must agree on; an image is no reason to drop a product."""
    return (
        row.name.casefold().replace("’", "'"),
        row.brand,
        row.unit,
        row.weight_g,
        row.volume_ml,
        row.tax_class,
        row.temperature,
        row.barcode,
        row.shelf_life_days,
    )


def _draft(rows: Sequence[Candidate], title_by_slug: dict[str, str]) -> ProductDraft:
    first = rows[0]
    categories = tuple(
        sorted(
            {
                # Titles that differ in case or punctuation alone are one category.
                title_by_slug.setdefault(Category.of(title).slug, title)
                for row in rows
                for title in row.categories
            }
        )
    )
    quantities = [row.initial_quantity for row in rows if row.initial_quantity is not None]
    return ProductDraft(
        external_id=first.external_id,
        name=first.name,
        brand=first.brand,
        categories=categories,
        unit=first.unit,
        weight_g=first.weight_g,
        volume_ml=first.volume_ml,
        tax_class=first.tax_class or infer_tax_class(first.name, categories),
        temperature=first.temperature or infer_temperature(first.name, categories),
        price_minor=first.price_minor,
        list_price_minor=first.list_price_minor,
        barcode=first.barcode,
        image_url=first.image_url,
        shelf_life_days=first.shelf_life_days,
        # The smallest, so that no unit is promised which one of the rows denies.
        initial_quantity=min(quantities, default=None),
    )
