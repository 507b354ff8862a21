"""Brand, temperature, tax class and measure of products that state none."""

import pytest

from catalog.inference import (
    Measure,
    infer_brand,
    infer_measure,
    infer_tax_class,
    infer_temperature,
)


@pytest.mark.parametrize(
    ("name", "brand"),
    [
        ("Amul Butter - Pasteurised", "Amul"),
        ("Kelloggs Chocos", "Kellogg's"),
        ("Ching’s Secret Chowmein Hakka Noodles", "Ching's Secret"),
        ("Ching's Schezwan Fried Rice", "Ching's"),
        ("Tata Sampann Poha", "Tata Sampann"),
        ("Nestlé CERELAC Baby Cereal", "Nestle"),
        ("Onion", None),
        ("Axel Grease", None),
    ],
)
def test_brand_is_the_longest_known_opening(name: str, brand: str | None) -> None:
    """Whole words only, whatever the case, the accents and the apostrophes."""
    assert infer_brand(name) == brand


@pytest.mark.parametrize(
    ("name", "categories", "temperature"),
    [
        ("Toned Milk Pouch", ["Beverages", "Dairy, Bread & Batter"], "chilled"),
        ("Whole Wheat Bread", ["Beverages", "Dairy, Bread & Batter"], "ambient"),
        ("Fruit Yogurt Vanilla", ["Health & Hygiene"], "chilled"),
        ("Veggie Fingers", ["Ice Cream & Desserts", "Packaged Food"], "frozen"),
        ("Corn Flakes", ["Ice Cream & Desserts", "Packaged Food"], "ambient"),
        ("Chicken Seekh Kebab", ["Meats, Fish & Eggs", "Packaged Food"], "frozen"),
        ("Chicken Masala", ["Cooking Essentials", "Meats, Fish & Eggs"], "ambient"),
        ("Rohu Bengali Cut", ["Meats, Fish & Eggs"], "chilled"),
        ("Butter Cookies", ["Biscuits"], "ambient"),
        ("Family Tub", ["Ice Cream"], "frozen"),
        ("Onion", ["Fruits & Vegetables"], "ambient"),
    ],
)
def test_temperature(name: str, categories: list[str], temperature: str) -> None:
    """Words decide where a scraped category is too broad, the category where it is not."""
    assert infer_temperature(name, categories) == temperature


@pytest.mark.parametrize(
    ("name", "categories", "tax_class"),
    [
        ("Onion", ["Fruits & Vegetables"], "exempt"),
        ("Brown Bread", ["Dairy, Bread & Batter"], "exempt"),
        ("Toor Dal", ["Cooking Essentials", "Munchies"], "reduced"),
        ("Cow Ghee", ["Cooking Essentials", "Munchies"], "intermediate"),
        ("Egg Curry Masala", ["Cooking Essentials", "Meats, Fish & Eggs"], "reduced"),
        ("Shampoo", ["Personal Care"], "standard"),
    ],
)
def test_tax_class(name: str, categories: list[str], tax_class: str) -> None:
    """Fresh food is exempt, staples are reduced, packaged goods are standard."""
    assert infer_tax_class(name, categories) == tax_class


@pytest.mark.parametrize(
    ("name", "weight_g", "quantity", "measure"),
    [
        ("Onion", 3000, 3, Measure("3 kg", 3000, None)),
        ("Watermelon", 58, 1, Measure("1 pc", 58, None)),
        ("Desi Eggs", 348, 6, Measure("6 pcs", 348, None)),
        ("Baby Pants", 24, 24, Measure("24 pcs", 24, None)),
        ("Mustard Oil", 1000, 1, Measure("1 l", 1000, 1000)),
        ("Bath Soap with Almond Oil", 125, 125, Measure("125 g", 125, None)),
        ("Pack of Rolls", 180, 190, Measure("180 g", 180, None)),
        ("Saffron", 1, 0, Measure("1 g", 1, None)),
    ],
)
def test_measure(name: str, weight_g: int, quantity: int, measure: Measure) -> None:
    """58 g a piece is the mark of things sold by the piece; else the weight is the measure."""
    assert infer_measure(name, weight_g=weight_g, quantity=quantity) == measure
