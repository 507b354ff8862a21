"""Decisions, parameter sets and their comparison on a real database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import insert, text, update

from dispatch.compare import Experiment, Unit
from dispatch.parameters import Parameters
from dispatch.plan import plan
from kit.db import Database
from kit.errors import NotFound
from kit.ids import new_id
from orders import comparison
from orders.tables import orders
from riders import decisions, parameter_sets
from riders.decision_tables import dispatch_parameter_sets
from riders.parameter_sets import ExperimentRunning, ParametersInvalid, SetInUse
from server.decision_log import DecisionLog
from server.decision_settings import DecisionLogSettings
from server.dispatch_explain import _decisions
from server.policies import Policies
from server.wiring import Services
from server.workers.housekeeping import forget_old_decisions
from tests.decision_support import town
from tests.order_support import Shop, open_shop

OPS = "usr_ops"


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


def at_home(shop: Shop, seed: int = 1):  # type: ignore[no-untyped-def]
    """A question whose first store is the shop's, now."""
    question = town(seed)
    return replace(question, now_s=shop.clock.now().timestamp())


async def put(shop: Shop, name: str, **overrides: object) -> None:
    async with shop.database.begin() as conn:
        await parameter_sets.put(
            conn, shop.place.city.id, name,
            {key.replace("__", "."): value for key, value in overrides.items()},  # type: ignore[misc]
            "", OPS, shop.clock.now(),
        )  # fmt: skip


async def start(shop: Shop, **changes: object) -> parameter_sets.Running:
    now = shop.clock.now()
    experiment = Experiment(
        **{
            "control": "default", "treatment": "b", "unit": Unit.CITY, "window_s": 600.0,
            "started_at_s": now.timestamp(), **changes,
        }
    )  # type: ignore[arg-type]  # fmt: skip
    async with shop.database.begin() as conn:
        return await parameter_sets.start(conn, shop.place.city.id, experiment, OPS, now)


async def test_an_orders_history_leads_to_its_decisions(shop: Shop, tmp_path: Path) -> None:
    """From the index to the whole decision, which answers again as it did."""
    question = at_home(shop)
    order_id = new_id("ord")
    first = replace(question.orders[0], order_id=order_id)
    question = replace(question, orders=(first, *question.orders[1:]))
    settings = DecisionLogSettings(directory=tmp_path)
    async with DecisionLog.open(settings, shop.database) as log:
        answer = plan(question)
        decision_id = log.record(
            shop.place.city.id, question, answer, seconds=0.02, epoch=7, parameter_set="b"
        )
        await log.flush()
    async with shop.database.begin() as conn:
        (row,) = await decisions.of_order(conn, order_id, 10)
    assert (row["decision_id"], row["epoch"], row["parameter_set"]) == (decision_id, 7, "b")
    (read,) = _decisions(tmp_path, [row], pytest.fail)
    assert plan(read.snapshot) == answer


async def test_old_decisions_are_forgotten_with_what_they_explained(shop: Shop) -> None:
    """By the real clock, in batches."""
    async with DecisionLog.open(DecisionLogSettings(), shop.database) as log:
        old, young = (
            log.record(shop.place.city.id, at_home(shop, n), plan(town(n)), seconds=0, epoch=1)
            for n in (1, 2)
        )
        await log.flush()
    async with shop.database.begin() as conn:
        await conn.execute(
            text(
                "UPDATE dispatch_decisions SET recorded_at = now() - interval '20 days'"
                " WHERE id = :id"
            ),
            {"id": old},
        )
    settings = SimpleNamespace(decision_log=DecisionLogSettings())
    services = SimpleNamespace(database=shop.database, settings=settings)
    await forget_old_decisions(cast(Services, services))
    left = await shop.rows(
        "SELECT DISTINCT decision_id FROM dispatch_explanations WHERE decision_id IN (:a, :b)",
        a=old, b=young,
    )  # fmt: skip
    assert left == [{"decision_id": young}]


async def test_a_city_plans_with_the_set_in_use(shop: Shop) -> None:
    """From the next look; back to what the program comes with by its name."""
    city_id, question = shop.place.city.id, at_home(shop)
    policies = Policies(shop.database, life_s=0.0)
    (part,) = await policies.parts(city_id, question)
    assert (part.parameter_set, part.snapshot.parameters) == ("default", question.parameters)
    await put(shop, "b", lateness__late_weight=5)
    async with shop.database.begin() as conn:
        assert await parameter_sets.use(conn, city_id, "b") == "default"
    (part,) = await policies.parts(city_id, question)
    assert part.parameter_set == "b"
    assert part.snapshot.parameters.lateness.late_weight == 5
    async with shop.database.begin() as conn:
        with pytest.raises(SetInUse):
            await parameter_sets.remove(conn, city_id, "b")
        assert await parameter_sets.use(conn, city_id, "default") == "b"
        await parameter_sets.remove(conn, city_id, "b")
    (part,) = await policies.parts(city_id, question)
    assert part.parameter_set == "default"


async def test_a_set_that_does_not_fit_any_more_stops_nothing(shop: Shop) -> None:
    """A parameter that a new version does not know: the city plans with the program's own."""
    city_id = shop.place.city.id
    async with shop.database.begin() as conn:
        await conn.execute(
            insert(dispatch_parameter_sets).values(
                city_id=city_id,
                name="old",
                overrides={"lateness.gone": 1},
                in_use=True,
                updated_at=shop.clock.now(),
                updated_by=OPS,
            )
        )
    (part,) = await Policies(shop.database).parts(city_id, at_home(shop))
    assert part.parameter_set == "default"
    assert part.snapshot.parameters == Parameters()


async def test_a_database_that_is_away_leaves_the_last_policy(shop: Shop) -> None:
    """Dispatch goes on with what it knew."""
    city_id = shop.place.city.id
    await put(shop, "b", lateness__late_weight=5)
    async with shop.database.begin() as conn:
        await parameter_sets.use(conn, city_id, "b")
    policies = Policies(shop.database, life_s=0.0)
    await policies.parts(city_id, at_home(shop))

    class Away:
        def begin(self) -> object:
            raise ConnectionRefusedError

    policies._database = Away()  # type: ignore[assignment]
    (part,) = await policies.parts(city_id, at_home(shop))
    assert part.parameter_set == "b"


async def test_a_comparison_lets_sets_take_turns(shop: Shop) -> None:
    """Both come up over a few windows; a part is planned with what its set was at the start."""
    city_id = shop.place.city.id
    await put(shop, "b", lateness__late_weight=5)
    await start(shop)
    await put(shop, "b", lateness__late_weight=9)
    policies = Policies(shop.database)
    seen = {}
    for window in range(8):
        question = at_home(shop)
        question = replace(question, now_s=question.now_s + 600.0 * window)
        (part,) = await policies.parts(city_id, question)
        seen[part.parameter_set] = part.snapshot.parameters.lateness.late_weight
    assert seen == {"default": Parameters().lateness.late_weight, "b": 5}


async def test_stores_may_keep_different_sets(shop: Shop) -> None:
    """The city's question falls into two, one for each set."""
    await put(shop, "b", extension__enabled=False)
    await start(shop, unit=Unit.FIXED, store_ids=frozenset({"store-1"}))
    parts = await Policies(shop.database).parts(shop.place.city.id, at_home(shop))
    stores = {part.parameter_set: {s.store_id for s in part.snapshot.stores} for part in parts}
    assert stores == {"default": {"store-0"}, "b": {"store-1"}}


async def test_one_comparison_at_a_time(shop: Shop) -> None:
    """A second is refused, and the end of the first makes room; both can be read."""
    city_id = shop.place.city.id
    await put(shop, "b", lateness__late_weight=5)
    first = await start(shop)
    with pytest.raises(ExperimentRunning):
        await start(shop)
    async with shop.database.begin() as conn:
        ended = await parameter_sets.end(conn, city_id, OPS, shop.clock.now())
        assert (ended.id, ended.ended_at is not None) == (first.id, True)
        with pytest.raises(NotFound):
            await parameter_sets.end(conn, city_id, OPS, shop.clock.now())
    second = await start(shop)
    async with shop.database.begin() as conn:
        assert (await parameter_sets.latest(conn, city_id, None)).id == second.id
        assert (await parameter_sets.latest(conn, city_id, first.id)).ended_at is not None
        assert (await parameter_sets.latest(conn, city_id, first.id)).experiment == first.experiment


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("b", {"lateness.late_weight": "much"}), ("b", {"nonsense": 1}),
        ("b", {"lateness.late_scale_s": 0}), ("default", {}), ("B!", {}),
    ],
)  # fmt: skip
async def test_a_set_that_cannot_be_is_not_kept(
    shop: Shop, name: str, overrides: dict[str, object]
) -> None:
    """The parameters' own checks decide."""
    async with shop.database.begin() as conn:
        with pytest.raises(ParametersInvalid):
            await parameter_sets.put(
                conn, shop.place.city.id, name, overrides, "", OPS, shop.clock.now()  # type: ignore[arg-type]
            )  # fmt: skip


async def test_outcomes_count_for_the_set_on_duty(shop: Shop) -> None:
    """A delivered order with its promise kept, one late, one cancelled and one scheduled."""
    city_id = shop.place.city.id
    await put(shop, "b", lateness__late_weight=5)
    begin = shop.clock.now() - timedelta(hours=2)
    kept, late, cancelled = [await shop.order_at("delivered") for _ in range(3)]
    async with shop.database.begin() as conn:
        for order_id, window in ((kept, 0), (late, 1), (cancelled, 1)):
            placed_at = begin + timedelta(seconds=600 * window + 400)
            await conn.execute(text("SET LOCAL session_replication_role = replica"))
            await conn.execute(
                update(orders)
                .where(orders.c.id == order_id)
                .values(
                    placed_at=placed_at,
                    promised_high_at=placed_at + timedelta(seconds=900),
                    delivered_at=placed_at + timedelta(seconds=600 if order_id == kept else 1_000),
                    **({"status": "cancelled"} if order_id == cancelled else {}),
                )
            )
        experiment = Experiment(
            control="default", treatment="b", unit=Unit.CITY, window_s=600.0, washout_s=300.0,
            started_at_s=begin.timestamp(),
        )  # fmt: skip
        found = await comparison.outcome(conn, city_id, experiment, begin, shop.clock.now())
        early = await comparison.outcome(
            conn, city_id, replace(experiment, washout_s=500.0), begin, shop.clock.now()
        )
    treated_first = experiment.treated("", 0)
    first, second = (
        (found.treatment, found.control) if treated_first else (found.control, found.treatment)
    )
    assert (first.orders, second.orders) == (1, 1)
    # Both were planned with the program's own set.
    assert found.treatment.planned_by_other == 1
    assert found.control.planned_by_other == 0
    measure = found.measures["click_to_door_s"]
    assert sorted([measure.control, measure.treatment]) == pytest.approx([600.0, 1_000.0])  # type: ignore[type-var]
    promise = found.measures["promise_kept"]
    assert {promise.control, promise.treatment} == {0.0, 1.0}
    assert found.measures["orders_per_trip"].control == 1.0
    assert (early.control.orders, early.treatment.orders) == (0, 0)
