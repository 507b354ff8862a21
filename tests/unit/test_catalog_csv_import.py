"""Reading a catalogue from CSV: both formats, each reason to leave a row out, and the real file."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.csv_import import (
    LINE_MAX_BYTES,
    ImportResult,
    RejectReason,
    UnknownFormat,
    read_catalogue,
)
from catalog.model import TaxClass, Temperature, in_store_barcode

SCRAPED_HEADER = (
    "category,name,mrp,discountPercent,availableQuantity,discountedSellingPrice,"
    "weightInGms,outOfStock,quantity"
)
OWN_HEADER = (
    "external_id,name,categories,unit,weight_g,price_minor,list_price_minor,brand,temperature,"
    "tax_class,volume_ml,shelf_life_days,initial_quantity,barcode,image_url"
)
ONION = "Fruits & Vegetables,Onion,2500,16,3,2100,1000,FALSE,1"
REAL_FILE = Path(__file__).parents[2] / "../shared/data/catalogue/zepto_v2.csv"

Import = Callable[..., ImportResult]


@pytest.fixture
def import_lines(tmp_path: Path) -> Import:
    """Write lines (str or bytes) to a file and read it as a catalogue."""

    def read(*lines: str | bytes, end: bytes = b"\n", start: bytes = b"") -> ImportResult:
        path = tmp_path / "catalogue.csv"
        encoded = [line.encode() if isinstance(line, str) else line for line in lines]
        path.write_bytes(start + b"".join(line + end for line in encoded))
        return read_catalogue(path)

    return read


def rejections(result: ImportResult) -> list[tuple[int, str]]:
    return [(issue.line, issue.reason_code.value) for issue in result.report.issues]


def test_scraped_row_becomes_a_product(import_lines: Import) -> None:
    """Every field is read or inferred as documented."""
    result = import_lines(
        SCRAPED_HEADER, "Beverages, Amul  Toned Milk ,6000,10,6,5400,1000,FALSE,1"
    )
    (product,) = result.products
    assert product.external_id.startswith("amul-toned-milk-1000-")
    assert asdict(product) == {
        "external_id": product.external_id,
        "name": "Amul Toned Milk",
        "brand": "Amul",
        "categories": ("Beverages",),
        "unit": "1 l",
        "weight_g": 1000,
        "volume_ml": 1000,
        "tax_class": TaxClass.STANDARD,
        "temperature": Temperature.AMBIENT,
        "price_minor": 5400,
        "list_price_minor": 6000,
        "barcode": in_store_barcode(product.external_id),
        "image_url": "/images/products/amul-toned-milk.svg",
        "shelf_life_days": None,
        "initial_quantity": 6,
    }


def test_own_row_becomes_a_product(import_lines: Import) -> None:
    """Stated fields are taken as they are."""
    result = import_lines(
        OWN_HEADER,
        "sku-1,Peach Drink,Drinks|Summer,6 x 200 ml,1260,9900,12000,Plum & Co,chilled,reduced,"
        "1200,90,24,4006381333931,/images/peach.svg",
    )
    (product,) = result.products
    assert asdict(product) == {
        "external_id": "sku-1",
        "name": "Peach Drink",
        "brand": "Plum & Co",
        "categories": ("Drinks", "Summer"),
        "unit": "6 x 200 ml",
        "weight_g": 1260,
        "volume_ml": 1200,
        "tax_class": TaxClass.REDUCED,
        "temperature": Temperature.CHILLED,
        "price_minor": 9900,
        "list_price_minor": 12000,
        "barcode": "4006381333931",
        "image_url": "/images/peach.svg",
        "shelf_life_days": 90,
        "initial_quantity": 24,
    }


def test_own_format_without_optional_columns(import_lines: Import) -> None:
    """What is not stated is inferred, or unknown."""
    result = import_lines(
        "weight_g,price_minor,unit,categories,Name,EXTERNAL_ID",
        "500,3800,500 g,Fruits & Vegetables,Okra,okra",
    )
    (product,) = result.products
    assert (product.list_price_minor, product.brand, product.initial_quantity) == (3800, None, None)
    assert product.tax_class is TaxClass.EXEMPT
    assert product.barcode == in_store_barcode("okra")


def test_rows_that_differ_in_category_alone_fold(import_lines: Import) -> None:
    """One product with all categories, sorted; stock is the smallest; case and spaces are noise."""
    result = import_lines(
        SCRAPED_HEADER,
        "Munchies,Toor Dal,9000,0,6,9000,500,FALSE,500",
        ONION,
        'Cooking Essentials,"toor  DAL ",9000,0,2,9000,500,FALSE,500',
        "munchies,Toor Dal,9000,0,6,9000,500,FALSE,500",
        "Munchies,Toor Dal,17000,0,6,17000,1000,FALSE,1",
    )
    assert [(p.name, p.unit, p.categories, p.initial_quantity) for p in result.products] == [
        ("Toor Dal", "500 g", ("Cooking Essentials", "Munchies"), 2),
        ("Onion", "1 kg", ("Fruits & Vegetables",), 3),
        ("Toor Dal", "1 kg", ("Munchies",), 6),
    ]
    assert (result.report.rows, result.report.folded, result.report.rejected) == (5, 2, 0)


def test_out_of_stock_rows_are_products_without_units(import_lines: Import) -> None:
    """The flag wins over the number beside it."""
    result = import_lines(SCRAPED_HEADER, ONION.replace("FALSE", "TRUE"))
    assert [product.initial_quantity for product in result.products] == [0]
    assert result.report.out_of_stock == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("Snacks,Chips,2000,0,3,2000,50,FALSE", "column_count"),
        ("Snacks,Chips,2000,0,3,2000,50,FALSE,50,x", "column_count"),
        ('Snacks,"Chips,2000,0,3,2000,50,FALSE,50', "malformed_row"),
        ('Snacks,"Chips"x,2000,0,3,2000,50,FALSE,50', "malformed_row"),
        (f"Snacks,{'x' * LINE_MAX_BYTES},2000,0,3,2000,50,FALSE,50", "malformed_row"),
        (b"Snacks,Chips \xff,2000,0,3,2000,50,FALSE,50", "bad_encoding"),
        ("Snacks,Chi\x00ps,2000,0,3,2000,50,FALSE,50", "control_character"),
        ("Snacks,Chi\x1bps,2000,0,3,2000,50,FALSE,50", "control_character"),
        ("Snacks,Chi\rps,2000,0,3,2000,50,FALSE,50", "control_character"),
        ("Snacks,\u202espihC,2000,0,3,2000,50,FALSE,50", "control_character"),
        ("Snacks, ,2000,0,3,2000,50,FALSE,50", "missing_value"),
        (",Chips,2000,0,3,2000,50,FALSE,50", "missing_value"),
        ("Snacks,Chips,,0,3,2000,50,FALSE,50", "missing_value"),
        (f"Snacks,{'x' * 201},2000,0,3,2000,50,FALSE,50", "too_long"),
        ("&,Chips,2000,0,3,2000,50,FALSE,50", "unknown_value"),
        ("Snacks,Chips,20.5,0,3,2000,50,FALSE,50", "not_an_integer"),
        ("Snacks,Chips,2000,0,3,2_000,50,FALSE,50", "not_an_integer"),
        ("Snacks,Chips,2000,0,3,2000,five,FALSE,50", "not_an_integer"),
        ("Snacks,Chips,2000,0,-3,2000,50,FALSE,50", "negative_number"),
        ("Snacks,Chips,2000,0,3,-2000,50,FALSE,50", "negative_number"),
        ("Snacks,Chips,2000,101,3,2000,50,FALSE,50", "out_of_range"),
        ("Snacks,Chips,2147483648,0,3,2000,50,FALSE,50", "out_of_range"),
        (f"Snacks,Chips,2000,0,{'9' * 5000},2000,50,FALSE,50", "out_of_range"),
        ("Snacks,Chips,2000,0,3,2000,50,MAYBE,50", "unknown_value"),
        ("Snacks,Chips,0,0,3,0,50,FALSE,50", "zero_price"),
        ("Snacks,Chips,2000,100,3,0,50,FALSE,50", "zero_price"),
        ("Snacks,Chips,2000,0,3,2001,50,FALSE,50", "price_above_list"),
        ("Snacks,Chips,2000,10,3,1699,50,FALSE,50", "discount_mismatch"),
        ("Snacks,Chips,2000,10,3,1901,50,FALSE,50", "discount_mismatch"),
        ("Snacks,Chips,2000,0,3,2000,0,FALSE,0", "zero_weight"),
    ],
)
def test_a_bad_scraped_row_is_left_out_by_line(
    import_lines: Import, row: str | bytes, reason: str
) -> None:
    """The row is named by its line and its reason, and its neighbours are read."""
    last = "Snacks,Peanuts,3000,0,3,3000,200,FALSE,200"
    result = import_lines(SCRAPED_HEADER, ONION, row, last)
    assert rejections(result) == [(3, reason)]
    assert [product.name for product in result.products] == ["Onion", "Peanuts"]
    assert result.report.rejected_by_reason == {RejectReason(reason): 1}
    assert 0 < len(result.report.issues[0].detail) < 200
    assert result.report.issues[0].detail.isprintable()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("external_id", "", "missing_value"),
        ("external_id", "x" * 121, "too_long"),
        ("categories", "|", "missing_value"),
        ("categories", "Snacks|!", "unknown_value"),
        ("unit", "", "missing_value"),
        ("weight_g", "0", "zero_weight"),
        ("price_minor", "", "missing_value"),
        ("price_minor", "0", "zero_price"),
        ("list_price_minor", "99", "price_above_list"),
        ("temperature", "warm", "unknown_value"),
        ("tax_class", "none", "unknown_value"),
        ("volume_ml", "0", "out_of_range"),
        ("shelf_life_days", "-1", "negative_number"),
        ("initial_quantity", "many", "not_an_integer"),
        ("barcode", "4006381333930", "unknown_value"),
        ("image_url", "/" + "x" * 500, "too_long"),
        ("brand", "x" * 81, "too_long"),
    ],
)
def test_a_bad_own_row_is_left_out_by_line(
    import_lines: Import, column: str, value: str, reason: str
) -> None:
    """Each field of the own format is checked."""
    good = dict.fromkeys(OWN_HEADER.split(","), "") | {
        "external_id": "a",
        "name": "Chips",
        "categories": "Snacks",
        "unit": "50 g",
        "weight_g": "50",
        "price_minor": "2000",
    }
    result = import_lines(
        OWN_HEADER,
        ",".join((good | {column: value}).values()),
        ",".join((good | {"external_id": "b"}).values()),
    )
    assert rejections(result) == [(2, reason)]
    assert [product.external_id for product in result.products] == ["b"]


def test_a_rupee_of_rounding_is_no_discrepancy(import_lines: Import) -> None:
    """Selling prices are rounded: one rupee either way is accepted, a paisa more is not."""
    rows = [
        f"Snacks,Chips {price},2000,10,3,{price},50,FALSE,50" for price in (1699, 1700, 1900, 1901)
    ]
    result = import_lines(SCRAPED_HEADER, *rows)
    assert [product.price_minor for product in result.products] == [1700, 1900]


def test_a_price_conflict_leaves_out_every_row_of_the_product(import_lines: Import) -> None:
    """Neither price is believed, whichever came first."""
    first = "Snacks,Chips,2000,0,3,2000,50,FALSE,50"
    second = "Munchies,Chips,1800,0,3,1800,50,FALSE,50"
    result = import_lines(SCRAPED_HEADER, first, ONION, second, first, "bad", second)
    assert rejections(result) == [
        (2, "price_conflict"),
        (4, "price_conflict"),
        (5, "price_conflict"),
        (6, "column_count"),
        (7, "price_conflict"),
    ]
    assert "line 2 asks 2000 of 2000, line 4 asks 1800 of 1800" in result.report.issues[0].detail
    assert [product.name for product in result.products] == ["Onion"]


def test_a_row_with_a_wrong_discount_takes_no_part_in_a_conflict(import_lines: Import) -> None:
    """What is left out already does not drag a sound row of the product with it."""
    result = import_lines(
        SCRAPED_HEADER,
        "Snacks,Chips,2000,50,3,1800,50,FALSE,50",
        "Snacks,Chips,2000,10,3,1800,50,FALSE,50",
    )
    assert rejections(result) == [(2, "discount_mismatch")]
    assert len(result.products) == 1


def test_one_key_for_two_products_is_a_conflict(import_lines: Import) -> None:
    """A key that is used twice is an error of the file, not an update."""
    header = "external_id,name,categories,unit,weight_g,price_minor"
    result = import_lines(
        header, "k,Chips,Snacks,50 g,50,2000", "k,Crisps,Snacks,50 g,50,2000", "m,Tea,Tea,1 g,1,100"
    )
    assert rejections(result) == [(2, "product_conflict"), (3, "product_conflict")]


def test_a_barcode_that_is_taken_rejects_the_later_product(import_lines: Import) -> None:
    """A scanner must never find two products."""
    header = "external_id,name,categories,unit,weight_g,price_minor,barcode"
    row = "{},{},Snacks,50 g,50,2000,4006381333931"
    result = import_lines(header, row.format("a", "Chips"), row.format("b", "Crisps"))
    assert rejections(result) == [(3, "barcode_conflict")]
    assert [product.external_id for product in result.products] == ["a"]


def test_key_survives_a_change_of_price_stock_and_category(import_lines: Import) -> None:
    """A later file updates the product that it means; another size is another product."""
    old = import_lines(SCRAPED_HEADER, ONION).products[0]
    new = import_lines(SCRAPED_HEADER, "Fresh,ONION ,3000,0,9,3000,1000,FALSE,1").products[0]
    assert (new.external_id, new.barcode) == (old.external_id, old.barcode)
    others = import_lines(
        SCRAPED_HEADER, ONION.replace(",1000,", ",3000,"), ONION.replace("FALSE,1", "FALSE,4")
    ).products
    assert len({old.external_id, *(other.external_id for other in others)}) == 3


def test_byte_order_mark_crlf_quotes_and_blank_lines(import_lines: Import) -> None:
    """What spreadsheets write is read; a blank line is no row, yet counts as a line."""
    result = import_lines(
        SCRAPED_HEADER,
        ONION,
        "",
        'Sauces,"Sauce, ""Hot""",2000,0,3,2000,50,FALSE,50',
        'Sauces,"""Mild Sauce""",2000,0,3,2000,60,FALSE,60',
        "bad",
        end=b"\r\n",
        start=b"\xef\xbb\xbf",
    )
    assert [product.name for product in result.products] == [
        "Onion",
        'Sauce, "Hot"',
        "Mild Sauce",
    ]
    assert result.report.rows == 4
    assert rejections(result) == [(6, "column_count")]


def test_last_line_needs_no_line_end(tmp_path: Path) -> None:
    """A file that ends within its last row is read whole."""
    path = tmp_path / "a.csv"
    path.write_text(f"{SCRAPED_HEADER}\n{ONION}")
    assert len(read_catalogue(path).products) == 1


def test_header_alone_is_an_empty_catalogue(import_lines: Import) -> None:
    """No rows is a result, not an error."""
    result = import_lines(SCRAPED_HEADER)
    assert (result.products, result.report.rows, result.report.issues) == ((), 0, ())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"name,price\nOnion,3\n",
        SCRAPED_HEADER.replace("mrp,", "").encode(),
        f"{SCRAPED_HEADER},colour".encode(),
        f"{SCRAPED_HEADER},mrp".encode(),
        b"external_id,name,categories,unit,weight_g,price_minor,prize",
        SCRAPED_HEADER.encode("utf-16"),
        b'"unclosed',
        b"x" * (LINE_MAX_BYTES + 10),
    ],
)
def test_an_unknown_header_names_the_columns(tmp_path: Path, content: bytes) -> None:
    """The error says what is expected; nothing of the file is guessed at."""
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(UnknownFormat, match=r"expected either all of: category, name.*external_id"):
        read_catalogue(path)


def test_the_error_names_the_columns_found(tmp_path: Path) -> None:
    """A misspelt column can be seen in the message, which stays printable and short."""
    path = tmp_path / "a.csv"
    path.write_text("name,prize,\u202ecolour\n")
    with pytest.raises(ValueError, match=r"found: name, prize, \\u202ecolour"):
        read_catalogue(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """The caller learns the path from the system's own error."""
    with pytest.raises(FileNotFoundError):
        read_catalogue(tmp_path / "none.csv")


def test_progress_rises_to_the_size_of_the_file(tmp_path: Path) -> None:
    """A progress bar sees bytes, never more than there are, and the end exactly once."""
    path = tmp_path / "a.csv"
    path.write_text("\n".join([SCRAPED_HEADER, *[ONION] * 2000]))
    calls: list[tuple[int, int]] = []
    read_catalogue(path, on_progress=lambda done, total: calls.append((done, total)))
    size = path.stat().st_size
    assert calls[-1] == (size, size)
    assert len(calls) > 5
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {size}


_cells = st.one_of(
    st.integers(-5, 3000).map(str), st.text(max_size=6), st.sampled_from(["TRUE", "FALSE", '"', ""])
)
_lines = st.one_of(
    st.binary(max_size=40),
    st.lists(_cells, min_size=9, max_size=9).map(lambda cells: ",".join(cells).encode()),
    st.sampled_from([ONION.encode(), ONION.replace("Onion", "Leek").encode()]),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(_lines, max_size=8))
def test_any_bytes_are_accounted_for(tmp_path: Path, lines: list[bytes]) -> None:
    """Whatever stands below the header, no error escapes and every row is counted once."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"\n".join([SCRAPED_HEADER.encode(), *lines]))
    report = read_catalogue(path).report
    below_header = path.read_bytes().split(b"\n")[1:]
    assert report.rows == sum(bool(line) and not line.isspace() for line in below_header)
    assert report.rows == report.products + report.folded + report.rejected
    assert list(report.issues) == sorted(report.issues, key=lambda issue: issue.line)


@pytest.fixture(scope="module")
def real_file() -> ImportResult:
    if not REAL_FILE.exists():
        pytest.skip("the scraped assortment is not in ../shared/data/catalogue")
    return read_catalogue(REAL_FILE)


def test_the_real_file_adds_up(real_file: ImportResult) -> None:
    """3,732 rows; 408 discounts off by more than a rupee and one price of 0, as its notes say."""
    report = real_file.report
    assert report.rows == 3732
    assert (report.products, report.folded, report.rejected) == (1581, 1685, 466)
    assert report.rejected_by_reason == {
        RejectReason.DISCOUNT_MISMATCH: 408,
        RejectReason.PRICE_CONFLICT: 53,
        RejectReason.ZERO_PRICE: 1,
        RejectReason.ZERO_WEIGHT: 4,
    }
    assert report.out_of_stock == sum(p.initial_quantity == 0 for p in real_file.products) == 202
    lines = [issue.line for issue in report.issues]
    assert lines == sorted(set(lines))
    zero_price = [i.line for i in report.issues if i.reason_code is RejectReason.ZERO_PRICE]
    assert zero_price == [3608]
    assert (
        REAL_FILE.read_text("utf-8-sig")
        .split("\n")[3607]
        .startswith("Home & Cleaning,Cherry Blossom Liquid Shoe Polish Neutral ,0,")
    )


def test_the_real_file_gives_the_same_products_twice(real_file: ImportResult) -> None:
    """A second import has nothing to change, and keys and barcodes are unique."""
    assert read_catalogue(REAL_FILE) == real_file
    assert len({p.external_id for p in real_file.products}) == len(real_file.products)
    assert len({p.barcode for p in real_file.products}) == len(real_file.products)


def test_the_real_file_has_many_to_many_categories(real_file: ImportResult) -> None:
    """Fourteen categories; the same product stands under up to seven of them."""
    assert len({title for p in real_file.products for title in p.categories}) == 14
    assert max(len(p.categories) for p in real_file.products) == 7
    assert sum(len(p.categories) > 1 for p in real_file.products) > 1000
    assert sum(p.brand is None for p in real_file.products) < 120
    assert {p.temperature for p in real_file.products} == set(Temperature)
