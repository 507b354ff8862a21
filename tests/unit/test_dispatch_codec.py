"""Decisions as plain data: nothing is lost, nothing unknown slips through."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dispatch.codec import CodecError, decode, encode
from dispatch.decision import Decision, read_decision, write_decision
from dispatch.overrides import differences, parameter_types, parse_overrides, with_overrides
from dispatch.parameters import Backend, Parameters
from dispatch.plan import plan
from dispatch.snapshot import Snapshot
from dispatch.travel import TravelTimes
from dispatch.travel_blocks import TravelBlocks
from tests.decision_support import town

FLOATS = st.floats(allow_nan=False, width=64)


def through_json(plain: object) -> object:
    return json.loads(json.dumps(plain, default=lambda raw: base64.b64encode(raw).decode()))


def through_msgpack(plain: object) -> object:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(plain))


@pytest.mark.parametrize("carry", [through_json, through_msgpack])
def test_what_is_read_is_what_was_written(carry) -> None:  # type: ignore[no-untyped-def]
    """A whole decision survives JSON and MessagePack; written again it is the same data."""
    question = town(3)
    decision = Decision(
        decision_id="dec-1", city_id="city", snapshot=question, plan=plan(question),
        points=np.random.default_rng(1).uniform(0, 50, (question.travel.places, 2)),
    )  # fmt: skip
    written = write_decision(decision)
    again = read_decision(carry(written))
    assert write_decision(again) == written
    assert again.snapshot.orders == question.orders
    assert again.snapshot.riders == question.riders
    assert again.snapshot.deadline_s == math.inf
    assert again.plan == decision.plan


# The first example compiles the engine.
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(0, 6))
def test_a_recorded_question_gets_the_same_answer(seed: int, orders: int, riders: int) -> None:
    """Planning what was read gives the plan of what was written, warm start included."""
    first = town(seed, orders, max(1, riders))
    question = replace(first, previous=plan(first), now_s=1_005.0)
    again = decode(Snapshot, through_msgpack(encode(question)))
    assert plan(again) == plan(question)


@given(
    arrays.arrays(
        dtype=st.sampled_from([np.float64, np.float32, np.int64, np.int32, np.uint16]),
        shape=arrays.array_shapes(max_dims=2, max_side=6),
    )
)
def test_arrays_keep_every_bit(values: np.ndarray) -> None:  # type: ignore[type-arg]
    """Whatever is in an array, nan and -0.0 too, comes back with its type."""
    size = values.shape[0]
    square = np.resize(values, (size, size))
    travel = TravelTimes(square, np.zeros(size, dtype=np.int32))
    again = decode(TravelTimes, through_msgpack(encode(travel)))
    assert again.seconds.dtype == square.dtype
    assert again.seconds.tobytes() == square.tobytes()


def test_whole_seconds_take_two_bytes() -> None:
    """A matrix of whole seconds with some ways missing is written as 16-bit numbers."""
    seconds = np.array([[0.0, 61.0], [np.inf, 0.0]])
    plain = encode(TravelTimes(seconds, np.arange(2, dtype=np.int32)))
    assert plain["seconds"]["stored"] == "<u2"
    assert np.array_equal(decode(TravelTimes, plain).seconds, seconds)


def test_blocks_of_travel_times_are_told_from_a_matrix() -> None:
    """A snapshot may hold either; its record says which."""
    question = town(1)
    blocks = TravelBlocks.gather(
        [0, 1, *[n % 2 for n in range(6)], *[-1] * 4, 0], [0, 1],
        question.travel.seconds_between,
    )  # fmt: skip
    again = decode(Snapshot, encode(replace(question, travel=blocks)))
    assert isinstance(again.travel, TravelBlocks)
    assert np.array_equal(again.travel.block_s, blocks.block_s)
    assert isinstance(decode(Snapshot, encode(question)).travel, TravelTimes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain["orders"][2].update(colour="red"), r"orders\[2\]\.colour"),
        (lambda plain: plain["orders"][0].pop("place"), r"orders\[0\]\.place is missing"),
        (lambda plain: plain["orders"][0].update(place=1.5), r"orders\[0\]\.place: an integer"),
        (lambda plain: plain["orders"][0].update(place=True), "an integer"),
        (lambda plain: plain["riders"][0].update(vehicle="ufo"), "one of foot"),
        (lambda plain: plain.update(now_s="soon"), "now_s: a number"),
        (lambda plain: plain.update(orders={}), "a list"),
        (lambda plain: plain["travel"].update(type="Magic"), "travel: an object with a type"),
        (lambda plain: plain["travel"]["seconds"].update(data=b"123"), "do not fill"),
        (lambda plain: plain["travel"]["seconds"].update(stored="O"), "number's type"),
        (lambda plain: plain["travel"]["seconds"].update(data="?"), "base64"),
        (lambda plain: plain["parameters"]["lateness"].update(late_scale_s=0), "late_scale_s"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message: str) -> None:  # type: ignore[no-untyped-def]
    """An unknown, missing or wrong field is an error that says where."""
    plain = encode(town(1))
    change(plain)
    with pytest.raises(ValueError, match=message):
        decode(Snapshot, plain)


def test_a_record_from_before_a_field_takes_its_default() -> None:
    """A field with a default may be missing: the log outlives the version that wrote it."""
    plain = encode(town(1))
    del plain["seed"], plain["parameters"]["urgency"]
    again = decode(Snapshot, plain)
    assert again.seed == 0
    assert again.parameters.urgency == Parameters().urgency


def test_another_form_is_refused() -> None:
    """A record of a form that this version does not know is not guessed at."""
    with pytest.raises(CodecError, match="form 1 expected"):
        read_decision({"form": 99})


@given(FLOATS)
def test_numbers_keep_their_value(value: float) -> None:
    """Infinity too, which JSON does not have."""
    question = replace(town(1), dropoff_service_s=abs(value))
    again = decode(Snapshot, through_json(encode(question)))
    assert again.dropoff_service_s == abs(value)


def test_parameters_are_set_by_name() -> None:
    """Text is read as the parameter's type; nothing else changes."""
    changed = with_overrides(
        Parameters(),
        parse_overrides(
            ["lateness.late_weight=3", "extension.enabled=false", "matching.backend=greedy"]
        ),
    )
    assert changed.lateness == replace(Parameters().lateness, late_weight=3.0)
    assert changed.extension.enabled is False
    assert changed.matching.backend is Backend.GREEDY
    assert differences(Parameters(), changed) == {
        "lateness.late_weight": 3.0, "extension.enabled": False, "matching.backend": "greedy",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lateness.late_wight=1", "did you mean lateness.late_weight"),
        ("nonsense=1", "no parameter"),
        ("lateness.late_weight=much", "not a number"),
        ("lateness.late_weight=nan", "not a number"),
        ("matching.nearest_riders=1.5", "not a number"),
        ("matching.nearest_riders=0", "at least 1"),
        ("extension.enabled=maybe", "true or false"),
        ("matching.backend=magic", "not one of flow"),
        ("lateness.late_weight", "of the form"),
        ("=3", "of the form"),
    ],
)
def test_parameters_that_cannot_be_are_refused(override: str, message: str) -> None:
    """The sentence says what is wrong with which parameter."""
    with pytest.raises(ValueError, match=message):
        with_overrides(Parameters(), parse_overrides([override]))


def test_every_plain_parameter_can_be_set_by_name() -> None:
    """Set to what it is, each leaves the parameters as they are."""
    plain = {
        name: value
        for name, value in _flat(encode(Parameters()))
        if isinstance(value, bool | int | float | str)
    }
    assert plain.keys() == parameter_types().keys()
    assert with_overrides(Parameters(), plain) == Parameters()
    texts = parse_overrides(f"{name}={str(value).lower()}" for name, value in plain.items())
    assert with_overrides(Parameters(), texts) == Parameters()


def _flat(plain: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for group, value in plain.items():
        if isinstance(value, dict):
            yield from ((f"{group}.{name}", one) for name, one in value.items())
        else:
            yield group, value
