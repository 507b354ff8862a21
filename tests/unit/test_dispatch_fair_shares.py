"""Between riders who are as good, the one who has worked less on this shift goes first."""

from __future__ import annotations

import pytest

from dispatch import Parameters, Rider, plan
from tests.plan_support import on_the_line, order, rider

# As far from the store as each other.
LEFT, RIGHT, AT_THE_STORE = 8, 12, 10


def worked(rider_id: str, place: int, share: float | None) -> Rider:
    """Who has worked for this share of the shift so far."""
    return rider(rider_id, place=place, idle_since_s=-300.0, work_share=share)


def chosen(*riders: Rider) -> str:
    """Who gets the only order."""
    (trip,) = plan(on_the_line([order()], list(riders), Parameters(), deadline_s=1.0)).trips
    return trip.rider_id


def test_the_one_who_worked_less_goes_first() -> None:
    """Equal but for their work on this shift, whichever of the two it is."""
    assert chosen(worked("r1", LEFT, 0.9), worked("r2", RIGHT, 0.1)) == "r2"
    assert chosen(worked("r1", LEFT, 0.1), worked("r2", RIGHT, 0.9)) == "r1"


def test_fairness_only_breaks_ties() -> None:
    """A rider who is clearly nearer goes, however much work it has been."""
    assert chosen(worked("r1", AT_THE_STORE, 1.0), worked("r2", RIGHT, 0.0)) == "r1"


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_lies_between_nothing_and_all(share: float) -> None:
    """Anything else raises ValueError."""
    with pytest.raises(ValueError, match="work_share"):
        worked("r1", LEFT, share)
