"""The promise told to a customer and the time of arrival shown later."""

import pytest

from dispatch import EtaInputs, PromiseInputs, PromiseParameters, PromiseRange, Stage, eta, promise

TYPICAL = {
    "lines": 5,
    "units": 7,
    "orders_ahead": 0,
    "orders_waiting": 0,
    "pickers": 2,
    "riders_free": 2,
    "expected_rider_wait_s": 240.0,
    "travel_s": 345.0,  # 2 km at 5.8 m/s
}


def test_typical_order_is_promised_in_8_to_12_minutes() -> None:
    """Two kilometres, an empty queue, a rider at the door: 8 to 12 minutes."""
    assert promise(PromiseInputs(**TYPICAL)) == PromiseRange(low_s=480, high_s=720)


def test_slower_of_goods_and_rider_counts() -> None:
    """A rider who needs less time than the picking adds nothing; a slower one adds the rest."""
    at_door = promise(PromiseInputs(**TYPICAL))
    assert promise(PromiseInputs(**TYPICAL, approach_s=100.0)) == at_door
    assert promise(PromiseInputs(**TYPICAL, approach_s=900.0)).low_s >= at_door.low_s + 480


def test_orders_ahead_wait_for_pickers() -> None:
    """Eight orders ahead cost more on one picker than on four, and more than none."""
    slow = promise(PromiseInputs(**{**TYPICAL, "orders_ahead": 8, "pickers": 1}))
    fast = promise(PromiseInputs(**{**TYPICAL, "orders_ahead": 8, "pickers": 4}))
    assert slow.low_s > fast.low_s > promise(PromiseInputs(**TYPICAL)).low_s


def test_orders_that_wait_take_the_free_riders_first() -> None:
    """With as many free riders as orders there is no wait; each rider short is one interval."""
    served = promise(PromiseInputs(**{**TYPICAL, "orders_waiting": 1}))
    short = promise(PromiseInputs(**{**TYPICAL, "orders_waiting": 4}))
    assert served == promise(PromiseInputs(**TYPICAL))
    assert short.low_s >= served.low_s + 240


def test_nobody_to_pick_is_a_long_promise() -> None:
    """A store without a picker promises longer than one with a picker, it does not fail."""
    nobody = promise(PromiseInputs(**{**TYPICAL, "pickers": 0}))
    assert nobody.low_s >= promise(PromiseInputs(**{**TYPICAL, "pickers": 1})).low_s + 360


@pytest.mark.parametrize("changes", [{"lines": -1}, {"travel_s": float("inf")}])
def test_impossible_promise_inputs_are_refused(changes: dict[str, float]) -> None:
    """Negative or infinite inputs raise ValueError."""
    with pytest.raises(ValueError, match="finite"):
        PromiseInputs(**{**TYPICAL, **changes})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("changes", [{"handover_cv": 1.0}, {"round_s": 0}, {"pack_s": -1.0}])
def test_parameters_that_break_monotony_are_refused(changes: dict[str, float]) -> None:
    """A spread that could pull the low end down as work grows is refused."""
    with pytest.raises(ValueError, match=r"below 1|negative"):
        PromiseParameters(**changes)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("inputs", "remaining_s"),
    [
        (EtaInputs(stage=Stage.PICKING, ready_in_s=120, rider_wait_s=60, travel_s=300), 525),
        (EtaInputs(stage=Stage.PICKING, ready_in_s=10, rider_wait_s=60, rider_to_store_s=90), 255),
        (EtaInputs(stage=Stage.PACKED, ready_in_s=500, rider_wait_s=60, travel_s=300), 465),
        (EtaInputs(stage=Stage.RIDER_TO_STORE, rider_wait_s=500, rider_to_store_s=90), 195),
        (EtaInputs(stage=Stage.RIDER_TO_STORE, ready_in_s=200, rider_to_store_s=90), 305),
        (EtaInputs(stage=Stage.EN_ROUTE, travel_s=200, stops_before=2), 380),
        (EtaInputs(stage=Stage.AT_DOOR, at_door_since_s=20), 40),
        (EtaInputs(stage=Stage.AT_DOOR, at_door_since_s=300), 0),
        (EtaInputs(stage=Stage.PICKING, ready_in_s=-300), 105),
        (EtaInputs(stage=Stage.DELIVERED, travel_s=100), 0),
    ],
)
def test_eta_counts_what_lies_ahead(inputs: EtaInputs, remaining_s: float) -> None:
    """Each stage adds its remaining parts (45 s at the store, 60 s a door) and no others."""
    assert eta(inputs) == remaining_s


def test_impossible_eta_inputs_are_refused() -> None:
    """Negative travel and endless picking raise ValueError."""
    with pytest.raises(ValueError, match="finite"):
        EtaInputs(stage=Stage.EN_ROUTE, travel_s=-1)
    with pytest.raises(ValueError, match="finite"):
        EtaInputs(stage=Stage.PICKING, ready_in_s=float("nan"))
