"""The client's own evidence: what is missing or comes twice is seen, and nothing else is."""

from __future__ import annotations

import random

from simulator.gaps import ChannelLog


def _started(seq: int = 10) -> ChannelLog:
    log = ChannelLog("order:ord_1")
    log.on_subscribed("e1", seq, recovered=False, asked=False)
    log.on_snapshot("e1", seq)
    return log


def test_a_gap_free_channel_is_clean() -> None:
    """Snapshot, events, a drop, a resume, more events: no violation."""
    log = _started()
    assert all(log.on_event(seq) for seq in (11, 12))
    assert log.since == {"epoch": "e1", "seq": 12}
    log.on_subscribed("e1", 14, recovered=True, asked=True)
    assert all(log.on_event(seq) for seq in (13, 14, 15))
    assert log.violations == []
    assert (log.events, log.resumed, log.restarted) == (5, 1, 0)


def test_a_missing_event_is_one_violation() -> None:
    """11 then 13: one violation, and the rest is judged from 13 on."""
    log = _started()
    assert log.on_event(11)
    assert not log.on_event(13)
    assert log.on_event(14)
    assert log.violations == ["order:ord_1: event 13 instead of 12"]


def test_an_event_that_comes_twice_is_a_violation() -> None:
    """11 twice: seen, and 12 is still what comes next."""
    log = _started()
    assert log.on_event(11)
    assert not log.on_event(11)
    assert log.on_event(12)
    assert len(log.violations) == 1


def test_a_resume_that_loses_an_event_is_a_violation() -> None:
    """Recovered from 10 to 12, but 12 comes without 11."""
    log = _started()
    log.on_subscribed("e1", 12, recovered=True, asked=True)
    assert not log.on_event(12)
    assert log.violations


def test_recovered_under_another_epoch_is_a_violation() -> None:
    """A new epoch has other events under the same numbers: only a snapshot may bridge it."""
    log = _started()
    log.on_subscribed("e2", 12, recovered=True, asked=True)
    assert log.violations


def test_not_recovered_with_a_snapshot_is_allowed() -> None:
    """The server may say that it cannot resume; then the snapshot is the new start."""
    log = _started()
    log.on_subscribed("e2", 3, recovered=False, asked=True)
    log.on_snapshot("e2", 3)
    assert log.on_event(4)
    assert log.violations == []
    assert log.restarted == 1


def test_an_event_between_not_recovered_and_its_snapshot_is_a_violation() -> None:
    """Nothing can be applied to a state that is void."""
    log = _started()
    log.on_subscribed("e1", 30, recovered=False, asked=True)
    assert not log.on_event(31)


def test_a_snapshot_from_the_past_is_a_violation() -> None:
    """Within an epoch the state never goes back."""
    log = _started()
    assert log.on_event(11)
    log.on_snapshot("e1", 9)
    assert log.violations


def test_an_event_before_any_snapshot_is_a_violation() -> None:
    """There is nothing to apply it to."""
    log = ChannelLog("store:sto_1")
    assert log.since is None
    assert not log.on_event(1)


def test_any_single_loss_or_repeat_in_any_place_is_seen() -> None:
    """Drop or repeat one of 30 events, over random resumes: always at least one violation."""
    rng = random.Random(8)
    for _ in range(300):
        events = list(range(11, 41))
        at = rng.randrange(len(events) - 1)
        if rng.random() < 0.5:
            del events[at]
        else:
            events.insert(at, events[at])
        log = _started()
        for seq in events:
            if rng.random() < 0.2 and log.seq is not None:
                log.on_subscribed("e1", max(log.seq, seq), recovered=True, asked=True)
            log.on_event(seq)
        assert len(log.violations) == 1
