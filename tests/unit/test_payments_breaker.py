"""The circuit breaker: when it opens, how long it stays so, and what one probe decides."""

from __future__ import annotations

import pytest

from payments.gateway import GatewayOutcome, OutcomeCode, OutcomeStatus
from payments.routing import Breaker, BreakerState, answered_well
from payments.settings import BreakerSettings

SETTINGS = BreakerSettings(window_s=10, min_calls=4, failure_rate=0.5, open_s=8, open_max_s=16)


class Clocked:
    """A breaker with a clock of its own."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.changes: list[BreakerState] = []
        self.breaker = Breaker(SETTINGS, self.changes.append, lambda: self.now_s)

    def call(self, well: bool) -> bool:
        """Whether the call was let through."""
        with self.breaker.call() as report:
            if report is not None:
                report(well)
        return report is not None

    def fail(self, times: int = 4) -> None:
        for _ in range(times):
            self.call(well=False)


def test_it_opens_at_the_failure_rate_and_not_before_enough_calls() -> None:
    """Three failures are an accident; the fourth of seven calls is the rate."""
    few = Clocked()
    few.fail(3)
    assert few.breaker.state is BreakerState.CLOSED
    mixed = Clocked()
    for well in (True, True, True, True, False, False, False):
        mixed.call(well)
    assert mixed.breaker.state is BreakerState.CLOSED
    mixed.call(well=False)
    assert mixed.breaker.state is BreakerState.OPEN
    assert not mixed.call(well=True)


def test_old_failures_are_forgotten() -> None:
    """Failures spread over longer than the window never open it."""
    clocked = Clocked()
    for _ in range(20):
        clocked.call(well=False)
        clocked.now_s += 4
    assert clocked.changes == []


def test_one_probe_at_a_time_decides() -> None:
    """Half open lets one call through; a good answer closes, and the past is forgotten."""
    clocked = Clocked()
    clocked.fail()
    clocked.now_s += 8
    assert clocked.breaker.state is BreakerState.HALF_OPEN
    with clocked.breaker.call() as probe:
        assert probe is not None
        assert not clocked.call(well=True), "a second call has to wait for the probe"
        probe(True)
    assert clocked.breaker.state is BreakerState.CLOSED
    clocked.fail(3)
    assert clocked.breaker.state is BreakerState.CLOSED
    assert clocked.changes == [BreakerState.OPEN, BreakerState.CLOSED]


def test_a_failed_probe_opens_it_for_longer_up_to_a_limit() -> None:
    """Open for 6 to 8 s at first, then for 12 to 16 s, never longer."""
    clocked = Clocked()
    clocked.fail()
    for shortest_s, longest_s in ((6, 8), (12, 16), (12, 16)):
        opened_at = clocked.now_s
        clocked.now_s = opened_at + shortest_s - 0.1
        assert clocked.breaker.state is BreakerState.OPEN
        clocked.now_s = opened_at + longest_s
        assert clocked.call(well=False)


def test_a_probe_that_is_never_answered_gives_its_place_away() -> None:
    """A cancelled call says nothing, and the next one may probe."""
    clocked = Clocked()
    clocked.fail()
    clocked.now_s += 8
    with pytest.raises(KeyboardInterrupt), clocked.breaker.call():
        raise KeyboardInterrupt
    assert clocked.call(well=True)
    assert clocked.breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("outcome", "well"),
    [
        (GatewayOutcome(OutcomeStatus.SUCCEEDED), True),
        (GatewayOutcome(OutcomeStatus.DECLINED, code="card_declined"), True),
        (GatewayOutcome(OutcomeStatus.UNKNOWN, code=OutcomeCode.PROCESSING), True),
        (GatewayOutcome(OutcomeStatus.FAILED, code=OutcomeCode.UNAVAILABLE), False),
        (GatewayOutcome(OutcomeStatus.UNKNOWN, code=OutcomeCode.TIMEOUT), False),
    ],
)
def test_a_decline_is_an_answer_and_a_time_out_is_not(outcome: GatewayOutcome, well: bool) -> None:
    """Only what shows a gateway in trouble counts as a failure."""
    assert answered_well(outcome) is well
