"""Properties of the assortment that ships with the project."""

from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from catalog.generated import PackSize, generated_catalogue, parse_size, shelf_price
from catalog.model import Category, ProductDraft, TaxClass, Temperature, is_valid_ean13


@pytest.fixture(scope="module")
def products() -> tuple[ProductDraft, ...]:
    return generated_catalogue()


def test_there_are_about_six_hundred_products(products: tuple[ProductDraft, ...]) -> None:
    """Enough to browse, few enough to seed in a moment."""
    assert 580 <= len(products) <= 700


def test_names_keys_and_barcodes_are_unique(products: tuple[ProductDraft, ...]) -> None:
    """Nothing can be mistaken for something else, by eye, by key or by scanner."""
    assert len({product.name.casefold() for product in products}) == len(products)
    assert len({product.external_id for product in products}) == len(products)
    assert len({product.barcode for product in products}) == len(products)
    assert all(is_valid_ean13(p.barcode) and p.barcode[0] == "2" for p in products)


def test_every_category_is_well_filled(products: tuple[ProductDraft, ...]) -> None:
    """About twenty categories of at least ten products, each under its own slug."""
    sizes = Counter(title for product in products for title in product.categories)
    assert 18 <= len(sizes) <= 24
    assert min(sizes.values()) >= 10
    assert len({Category.of(title).slug for title in sizes}) == len(sizes)
    assert any(len(product.categories) > 1 for product in products)


def test_prices_are_whole_rupees_and_end_sensibly(products: tuple[ProductDraft, ...]) -> None:
    """No label says 1,137.42; the list price is never below the price; discounts stay modest."""
    for product in products:
        for amount_minor in (product.price_minor, product.list_price_minor):
            rupees, paise = divmod(amount_minor, 100)
            assert paise == 0
            assert rupees < 50 or rupees % 10 in (5, 9), product.name
        assert product.price_minor >= 0.7 * product.list_price_minor, product.name
    assert any(product.price_minor < product.list_price_minor for product in products)


def test_larger_packs_cost_more_and_less_by_the_kilogram(
    products: tuple[ProductDraft, ...],
) -> None:
    """Of one thing in two sizes, the larger one costs more, and saves (2 % of rounding aside)."""
    by_thing: dict[str, list[ProductDraft]] = defaultdict(list)
    for product in products:
        by_thing[product.name.removesuffix(f", {product.unit}")].append(product)
    several = [packs for packs in by_thing.values() if len(packs) > 1]
    assert len(several) > 100
    for packs in several:
        packs.sort(key=lambda pack: pack.weight_g)
        for smaller, larger in pairwise(packs):
            assert larger.weight_g > smaller.weight_g
            assert larger.price_minor > smaller.price_minor, larger.name
            by_weight = larger.price_minor * smaller.weight_g / larger.weight_g
            assert by_weight <= 1.02 * smaller.price_minor, larger.name


def test_storage_fits_the_goods(products: tuple[ProductDraft, ...]) -> None:
    """Ice cream is frozen, fresh meat chilled and short-lived, everything fits on a scooter."""
    for product in products:
        if "Ice Cream & Desserts" in product.categories or "Frozen" in product.name:
            assert product.temperature is Temperature.FROZEN, product.name
        if product.categories == ("Meat & Fish",):
            assert product.temperature is Temperature.CHILLED, product.name
            assert product.shelf_life_days is not None
            assert product.shelf_life_days <= 30
        if "Fruits & Vegetables" in product.categories:
            assert product.tax_class is TaxClass.EXEMPT
            assert product.brand is None
        assert 10 <= product.weight_g <= 12_000, product.name
        assert product.initial_quantity is not None
        assert 12 <= product.initial_quantity <= 60
        assert product.image_url.startswith("/images/products/")
    assert {p.temperature for p in products} == set(Temperature)
    assert {p.tax_class for p in products} == set(TaxClass)


def test_a_branded_name_opens_with_its_brand(products: tuple[ProductDraft, ...]) -> None:
    """The brand of a product can be read off its name."""
    assert all(p.name.startswith(p.brand) for p in products if p.brand is not None)


def test_the_seed_decides_prices_and_not_identity(products: tuple[ProductDraft, ...]) -> None:
    """One seed gives one catalogue; another seed changes prices, never keys or barcodes."""
    generated_catalogue.cache_clear()
    assert generated_catalogue(7) == products
    other = generated_catalogue(8)
    assert [(p.external_id, p.barcode) for p in other] == [
        (p.external_id, p.barcode) for p in products
    ]
    assert [p.price_minor for p in other] != [p.price_minor for p in products]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500 g", PackSize("500 g", 500, 500, None)),
        ("1.2 kg", PackSize("1.2 kg", 1200, 1200, None)),
        ("6 x 200 ml", PackSize("6 x 200 ml", 1200, 1260, 1200)),
        ("6 pcs = 330", PackSize("6 pcs", 6, 330, None)),
    ],
)
def test_size_grammar(text: str, size: PackSize) -> None:
    """Masses, volumes, packs, and pieces that state their grams."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "500", "6 pcs", "500 g = 500", "x 200 ml", "-1 kg"])
def test_size_grammar_refuses(text: str) -> None:
    """A slip in the templates is an error, not a product."""
    with pytest.raises(ValueError, match=r"size|grams"):
        parse_size(text)


def test_shelf_price_never_falls_when_the_price_rises() -> None:
    """Rounding keeps the order of prices, so that a larger pack never gets cheaper."""
    labels = [shelf_price(tenths / 10) for tenths in range(10, 30_000)]
    assert labels == sorted(labels)
    assert {label % 10 for label in labels if label >= 50} <= {5, 9}
    assert max(abs(shelf_price(p) - p) / p for p in range(50, 3000)) < 0.07
