"""The expected orders of a store."""

from __future__ import annotations

import numpy as np
import pytest

from dispatch.forecast import (
    Forecast,
    ForecastParameters,
    Placed,
    Shape,
    at_least,
    expected_orders,
    forecast_store,
    shares,
    smoothed_mean,
)

HOUR_S = 3600.0


def every(step_s: float, hours: float) -> list[Placed]:
    """Orders in even steps up to now (time 0), each to the place of its number."""
    count = int(hours * HOUR_S / step_s)
    return [Placed(at_s=-step_s * (n + 0.5), place=n % 5) for n in range(count)]


def steady(per_hour: float, hours: float = 3.0, shape: Shape | None = None) -> Forecast:
    return forecast_store("sto_1", every(HOUR_S / per_hour, hours), 0.0, -hours * HOUR_S, shape)


@pytest.mark.parametrize("per_hour", [6.0, 30.0, 120.0])
def test_a_steady_stream_goes_on(per_hour: float) -> None:
    """What came evenly for three hours is expected to come on, within a tenth or so."""
    assert steady(per_hour).mean(HOUR_S) == pytest.approx(per_hour, rel=0.12)


def test_nothing_known_is_the_prior_and_says_so() -> None:
    """A store without a past is expected to be a quiet one, and the range is wide."""
    unknown = forecast_store("sto_1", [], 0.0, 0.0)
    assert unknown.mean(HOUR_S) == pytest.approx(ForecastParameters().prior_per_hour)
    known = steady(4.0, hours=6.0)
    assert unknown.variance(HOUR_S) > 2 * known.variance(HOUR_S)


def test_newer_orders_count_for_more() -> None:
    """Twenty orders in the last half hour say more than twenty two hours ago."""
    late = [Placed(at_s=-60.0 * n) for n in range(20)]
    early = [Placed(at_s=-2 * HOUR_S - 60.0 * n) for n in range(20)]
    now = forecast_store("sto_1", late, 0.0, -3 * HOUR_S)
    then = forecast_store("sto_1", early, 0.0, -3 * HOUR_S)
    assert now.mean(HOUR_S) > 2 * then.mean(HOUR_S)


def test_what_earlier_weeks_had_bends_the_forecast() -> None:
    """Lunch is seen coming before its first order, scaled by how the day has gone so far."""
    quarters = np.array([2.0] * 12 + [10.0] * 8)
    lunch = Shape(start_s=-3 * HOUR_S, step_s=900.0, expected=quarters)
    usual = steady(8.0, shape=lunch)
    busy = steady(16.0, shape=lunch)
    assert usual.mean(HOUR_S) == pytest.approx(40.0, rel=0.15)
    assert busy.mean(HOUR_S) > 1.6 * usual.mean(HOUR_S)


def test_orders_outside_the_window_are_left_out() -> None:
    """An order from the future or from before the window changes nothing."""
    inside = every(300.0, 1.0)
    strange = [*inside, Placed(at_s=500.0), Placed(at_s=-5 * HOUR_S)]
    one = forecast_store("sto_1", inside, 0.0, -HOUR_S)
    other = forecast_store("sto_1", strange, 0.0, -HOUR_S)
    assert one.mean(HOUR_S) == other.mean(HOUR_S)


def test_the_tail_is_that_of_the_negative_binomial() -> None:
    """P(N >= k) falls, sums to the mean, and is 1 - (b / (b + e))^a for one order."""
    chances = at_least(3.0, 6.0, 400)
    assert chances[0] == pytest.approx(1 - (3.0 / 9.0) ** 3)
    assert (np.diff(chances) <= 0).all()
    assert chances.sum() == pytest.approx(6.0)
    assert at_least(3.0, 0.0, 4).tolist() == [0.0] * 4


def test_four_times_out_of_five_it_is_in_the_range() -> None:
    """Quantiles enclose what they say they enclose."""
    forecast = steady(30.0)
    low, high = forecast.quantile(HOUR_S, 0.1), forecast.quantile(HOUR_S, 0.9)
    assert low < forecast.mean(HOUR_S) < high
    chances = forecast.chances(HOUR_S, high + 1)
    assert chances[high] <= 0.1 + 1e-9
    assert chances[low - 1] >= 0.9


def test_expected_orders_are_told_by_time_and_likelihood() -> None:
    """The next orders are spread over the horizon, at recent drop-offs, less likely ones less."""
    ghosts = expected_orders([steady(12.0)], 1800.0)
    times = [ghost.at_s for ghost in ghosts]
    assert times == sorted(times)
    assert all(0 < at_s <= 1800.0 for at_s in times)
    assert all(0.15 <= ghost.weight <= 1.0 for ghost in ghosts)
    assert {ghost.place for ghost in ghosts} <= set(range(5))
    assert len({ghost.place for ghost in ghosts}) >= 3
    assert sum(ghost.weight for ghost in ghosts) == pytest.approx(6.0, rel=0.2)


def test_the_likeliest_are_kept_when_there_are_too_many() -> None:
    """With room for three, the three likeliest of both stores are told."""
    ghosts = expected_orders([steady(60.0)], 1800.0, most=3)
    assert len(ghosts) == 3
    assert min(ghost.weight for ghost in ghosts) > 0.9


def test_a_store_without_drop_offs_expects_no_order_anywhere() -> None:
    """Where nobody has ordered there is no place to send a ghost to."""
    assert expected_orders([forecast_store("sto_1", [], 0.0, -HOUR_S)], 1800.0) == ()


def test_prep_times_come_from_recent_orders() -> None:
    """Orders that took ten minutes to pack make the next one take nearly that long."""
    slow = [Placed(at_s=-60.0 * n, ready_after_s=600.0) for n in range(30)]
    forecast = forecast_store("sto_1", slow, 0.0, -HOUR_S)
    assert 550 < forecast.ready_after_s < 600


def test_shares_sum_to_one_and_follow_the_newest() -> None:
    """Cells of newer drop-offs have the larger share."""
    found = shares(["a", "a", "b"], [7200.0, 7200.0, 0.0], 3600.0)
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["b"] > found["a"]
    assert shares([], [], 3600.0) == {}


def test_a_smoothed_mean_starts_at_its_prior() -> None:
    """Without a value it is the prior; with many it is theirs."""
    assert smoothed_mean([], [], 60.0, prior_value=720.0, prior_weight=5.0) == 720.0
    many = smoothed_mean([300.0] * 500, [0.0] * 500, 60.0, prior_value=720.0, prior_weight=5.0)
    assert many == pytest.approx(300.0, abs=5.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ForecastParameters(half_life_s=0.0),
        lambda: ForecastParameters(least_chance=1.0),
        lambda: forecast_store("sto_1", [], 0.0, 1.0),
        lambda: Shape(start_s=0.0, step_s=900.0, expected=np.array([-1.0])),
        lambda: Shape(start_s=0.0, step_s=900.0, expected=np.array([])),
    ],
)
def test_nonsense_is_refused(wrong: object) -> None:
    """Negative, empty or reversed inputs raise ValueError."""
    with pytest.raises(ValueError, match=r"positive|probability|window|negative|shape"):
        wrong()  # type: ignore[operator]  # each is a call
