"""Demand is the same for the same seed, whatever the server and the speed of time do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from geo.distances import Point, distance_m
from geo.procedural import procedural_city
from simulator.demand import PAYMENTS, Demand, Places, Product, catalogue_of, places_around, shape

ROADS = procedural_city(3).roads
STORES = [
    Point(float(ROADS.lat[len(ROADS.lat) // 3]), float(ROADS.lon[len(ROADS.lat) // 3])),
    Point(float(ROADS.lat[len(ROADS.lat) // 2]), float(ROADS.lon[len(ROADS.lat) // 2])),
]
PRODUCTS = [Product((f"Product {n:03d}", "1 pc", ""), (f"category-{n % 7}",)) for n in range(140)]
PLACES = places_around(ROADS, STORES, seed=3)
DEMAND = Demand(seed=3, places=PLACES, products=PRODUCTS)


def test_the_same_seed_gives_the_same_demand_to_the_byte() -> None:
    """Two demands of one seed agree in every order; another seed gives another demand."""
    again = Demand(seed=3, places=places_around(ROADS, STORES, seed=3), products=list(PRODUCTS))
    assert list(DEMAND.orders(1800)) == list(again.orders(1800))
    assert DEMAND.digest(1800) == again.digest(1800)
    assert DEMAND.digest(1800) != replace(DEMAND, seed=4).digest(1800)


def test_a_longer_day_begins_like_a_shorter_one() -> None:
    """Where the day ends changes no order before its end."""
    short, long = list(DEMAND.orders(900)), list(DEMAND.orders(1800))
    assert long[: len(short)] == short
    assert all(order.at_s >= 900 for order in long[len(short) :])


def test_the_digest_sees_every_part_of_an_order() -> None:
    """One product under another name is another demand."""
    renamed = [Product(("Other", "1 pc", ""), product.categories) for product in PRODUCTS]
    assert DEMAND.digest(1800) != replace(DEMAND, products=renamed).digest(1800)


@pytest.mark.parametrize("orders_per_hour", [60.0, 300.0, 1200.0])
def test_the_rate_is_the_one_asked_for(orders_per_hour: float) -> None:
    """Over 20 stretches the count is within five standard deviations of the rate."""
    demand = replace(DEMAND, orders_per_hour=orders_per_hour)
    count = sum(1 for _ in demand.arrivals(20 * 3600.0))
    expected = 20 * orders_per_hour
    assert abs(count - expected) < 5 * expected**0.5


def test_lunch_and_evening_are_busier_than_the_rest() -> None:
    """The shape has mean 1 and two peaks, the evening's the higher one."""
    steps = [shape((i + 0.5) / 1000) for i in range(1000)]
    assert sum(steps) / 1000 == pytest.approx(1.0, abs=1e-3)
    assert shape(0.72) > shape(0.30) > 1.0 > shape(0.5) > 0.5


def test_arrivals_follow_the_shape() -> None:
    """Of many arrivals, the busiest tenth of a stretch has its share and not the mean's."""
    at = [t / 3600.0 % 1.0 for t in DEMAND.arrivals(100 * 3600.0)]
    share = sum(0.67 <= t < 0.77 for t in at) / len(at)
    expected = sum(shape(0.67 + 0.1 * (i + 0.5) / 100) for i in range(100)) / 1000
    assert share == pytest.approx(expected, rel=0.05)


def test_people_live_on_streets_near_stores() -> None:
    """Every place is a node of the network within reach, and nearer places have more people."""
    distances = []
    for order in DEMAND.orders(12 * 3600.0):
        node = PLACES.nodes[order.place]
        home = Point(order.lat, order.lon)
        assert distance_m(home, Point(float(ROADS.lat[node]), float(ROADS.lon[node]))) < 0.2
        distances.append(min(distance_m(home, store) for store in STORES))
    assert max(distances) <= 2_610.0
    plain = [min(distance_m(point, store) for store in STORES) for point in PLACES.points]
    assert sum(distances) / len(distances) < 0.85 * sum(plain) / len(plain)


def test_baskets_are_small_and_hold_each_product_once() -> None:
    """1 to 10 lines, 1 to 4 units, no product twice; about three lines on average."""
    orders = list(DEMAND.orders(4 * 3600.0))
    for order in orders:
        products = [line.product for line in order.lines]
        assert len(set(products)) == len(products)
        assert 1 <= len(products) <= 10
        assert all(1 <= line.quantity <= 4 for line in order.lines)
    assert 2.0 < sum(len(order.lines) for order in orders) / len(orders) < 4.0


def test_some_products_sell_far_better_than_others() -> None:
    """The tenth of the products that sells best is in at least a quarter of the lines."""
    sold = Counter(line.product for order in DEMAND.orders(20 * 3600.0) for line in order.lines)
    best = sum(count for _, count in sold.most_common(len(PRODUCTS) // 10))
    assert best > 0.25 * sold.total()


def test_payment_shares_add_up_and_every_kind_occurs() -> None:
    """Shares sum to 1; in a long day each method and token is seen."""
    assert sum(share for _, _, share in PAYMENTS) == pytest.approx(1.0)
    seen = {(order.method, order.token) for order in DEMAND.orders(20 * 3600.0)}
    assert seen == {(method, token) for method, token, _ in PAYMENTS}


def test_ids_of_one_seeding_do_not_matter() -> None:
    """A catalogue seeded twice has other ids in another order, and gives the same products."""
    listing: list[dict[str, object]] = [
        {"sku_id": f"sku_{n}", "name": f"N{n}", "unit": "1 kg", "brand": None, "categories": ["a"]}
        for n in range(5)
    ]
    again = [{**item, "sku_id": f"sku_x{n}"} for n, item in enumerate(reversed(listing))]
    assert catalogue_of(listing)[0] == catalogue_of(again)[0]
    assert catalogue_of(listing)[1] == [f"sku_{n}" for n in range(5)]
    assert catalogue_of(again)[1] == [f"sku_x{4 - n}" for n in range(5)]


def test_demand_without_places_or_rate_is_refused() -> None:
    """Nobody can live nowhere, or order never."""
    with pytest.raises(ValueError, match="place"):
        Demand(seed=1, places=Places((), (), ()), products=PRODUCTS)
    with pytest.raises(ValueError, match="rate"):
        replace(DEMAND, orders_per_hour=0.0)
    with pytest.raises(ValueError, match="no street"):
        places_around(ROADS, [Point(0.0, 0.0)], seed=1)
