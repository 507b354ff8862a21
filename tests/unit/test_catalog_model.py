"""Barcodes, slugs and labels of products."""

import pytest

from catalog.model import (
    TAX_RATE_BP,
    Category,
    TaxClass,
    ean13,
    image_path,
    in_store_barcode,
    is_valid_ean13,
    mass_label,
    piece_label,
    slug,
    volume_label,
)


@pytest.mark.parametrize(
    ("body", "barcode"),
    [
        ("400638133393", "4006381333931"),  # a widely published worked example
        ("200000000000", "2000000000008"),
        ("000000000000", "0000000000000"),
    ],
)
def test_ean13_appends_the_check_digit(body: str, barcode: str) -> None:
    """The check digit brings the weighted sum to a multiple of ten."""
    assert ean13(body) == barcode
    assert is_valid_ean13(barcode)


@pytest.mark.parametrize("body", ["", "12345678901", "1234567890123", "12345678901a", "²" * 12])
def test_ean13_refuses_what_is_not_twelve_digits(body: str) -> None:
    """Only twelve ASCII digits have a check digit."""
    with pytest.raises(ValueError, match="12 digits"):
        ean13(body)


def test_any_single_wrong_digit_is_detected() -> None:
    """Changing one digit of a valid barcode always makes it invalid."""
    barcode = "4006381333931"
    for position in range(13):
        for digit in "0123456789":
            if digit != barcode[position]:
                assert not is_valid_ean13(barcode[:position] + digit + barcode[position + 1 :])


@pytest.mark.parametrize("barcode", ["", "400638133393", "40063813339311", "４006381333931"])
def test_wrong_length_or_alphabet_is_no_barcode(barcode: str) -> None:
    """Thirteen ASCII digits, nothing else."""
    assert not is_valid_ean13(barcode)


def test_in_store_barcode_is_stable_and_in_the_private_range() -> None:
    """A key has one barcode for ever; this value must never change, shelves carry it."""
    assert in_store_barcode("onion-1000") == in_store_barcode("onion-1000")
    assert in_store_barcode("onion-1000") == "2014779584928"
    keys = [f"key-{number}" for number in range(500)]
    barcodes = {in_store_barcode(key) for key in keys}
    assert len(barcodes) == 500
    assert all(barcode.startswith("2") and is_valid_ean13(barcode) for barcode in barcodes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fruits & Vegetables", "fruits-vegetables"),
        ("  Ice  Cream ", "ice-cream"),
        ("Chef's Crème", "chefs-creme"),
        ("प्याज", ""),
    ],
)
def test_slug(text: str, expected: str) -> None:
    """Lower-case ASCII words joined by hyphens."""
    assert slug(text) == expected


def test_category_of_a_title() -> None:
    """A title is kept but for its spaces; one in another script gets a slug of its own."""
    assert Category.of(" Dairy,  Bread ") == Category("dairy-bread", "Dairy, Bread")
    assert Category.of("सब्ज़ी").slug != Category.of("फल").slug
    with pytest.raises(ValueError, match="letter or a digit"):
        Category.of(" & ")


def test_labels() -> None:
    """Amounts switch to the larger measure from a thousand on."""
    assert [mass_label(g) for g in (1, 999, 1000, 1200, 5000)] == [
        "1 g",
        "999 g",
        "1 kg",
        "1.2 kg",
        "5 kg",
    ]
    assert [volume_label(ml) for ml in (330, 1500)] == ["330 ml", "1.5 l"]
    assert [piece_label(n) for n in (1, 6)] == ["1 pc", "6 pcs"]


def test_image_path_is_relative_to_the_shop() -> None:
    """No host is named, and a name without ASCII letters still has a file of its own."""
    assert image_path("Vine Tomatoes") == "/images/products/vine-tomatoes.svg"
    assert image_path("प्याज") != image_path("आलू")


def test_every_tax_class_has_a_rate() -> None:
    """Rates rise with the class, from none."""
    assert [TAX_RATE_BP[tax_class] for tax_class in TaxClass] == [0, 500, 1_200, 1_800]
