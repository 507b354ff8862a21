"""The schedule of a fault run, which is made from its seed before anything starts."""

from __future__ import annotations

from itertools import pairwise

from loadtests.chaos.plan import make_plan

LANES = {
    "engines": [("kill", 5.0), ("stop", 22.0), ("full disk", 12.0)],
    "wires": [("slow", 8.0), ("flapping", 6.0)],
}


def test_a_seed_says_what_strikes_when() -> None:
    """The same seed gives the same plan, another one another."""
    assert make_plan(7, 600.0, LANES) == make_plan(7, 600.0, LANES)
    assert make_plan(7, 600.0, LANES).strikes != make_plan(8, 600.0, LANES).strikes


def test_every_fault_strikes_once_a_round() -> None:
    """Ten minutes are two rounds; a number of rounds can be asked for."""
    for rounds, plan in ((2, make_plan(7, 600.0, LANES)), (5, make_plan(7, 60.0, LANES, 5))):
        faults = [strike.fault for strike in plan.strikes]
        assert {fault: faults.count(fault) for lane in LANES.values() for fault, _ in lane} == {
            fault: rounds for lane in LANES.values() for fault, _ in lane
        }


def test_faults_of_one_lane_never_overlap() -> None:
    """Two ways of killing one engine at once would be one."""
    for seed in range(50):
        plan = make_plan(seed, 600.0, LANES)
        for lane in LANES:
            for one, following in pairwise(plan.of_lane(lane)):
                assert one.at_s + one.lasts_s <= following.at_s + 0.01


def test_faults_are_spread_over_the_run() -> None:
    """The last of them is not long before the end, on average."""
    lasts = [make_plan(seed, 600.0, LANES).strikes[-1].at_s for seed in range(50)]
    assert 480.0 < sum(lasts) / len(lasts) < 600.0
