"""What a benchmark says is one JSON object, last, and its client reads what a server answers."""

from __future__ import annotations

import orjson
import pytest

from server.bench.bare import bare_app
from server.bench.http_load import Answer, Connection, Connections, closed_loop, open_loop, post
from server.bench.report import Ratio, Report, percentile, print_report
from tests.http_support import served

ORDER = {"quote_id": "quo_1", "payment": {"method": "cod"}}


@pytest.mark.parametrize(
    ("ratio", "met"),
    [
        (Ratio(1.2, 1.0), True),
        (Ratio(0.9, 1.0), False),
        (Ratio(0.9, 1.0, at_most=True), True),
        (Ratio(1.2, 1.0, at_most=True), False),
    ],
)
def test_a_ratio_knows_which_side_is_good(ratio: Ratio, met: bool) -> None:
    """Some goals are floors and some are ceilings."""
    assert ratio.met is met


@pytest.mark.parametrize("as_json", [True, False])
def test_the_last_line_is_the_report(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """Tables are for people; the last line is always for programs."""
    report = Report("some", {"rate": 1234.5678}, {"of": Ratio(0.5, 1.0)}, {"cores": 2})
    print_report(report, as_json=as_json)
    lines = capsys.readouterr().out.strip().splitlines()
    assert orjson.loads(lines[-1]) == {
        "bench": "some",
        "figures": {"rate": 1235},
        "ratios": {"of": {"value": 0.5, "goal": 1.0, "met": False}},
        "context": {"cores": 2},
    }
    assert (len(lines) == 1) is as_json
    assert not report.met


def test_percentiles_are_values_that_were_measured() -> None:
    """The nearest rank: no value is made up between two."""
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 51, 100, 100]
    assert percentile([], 0.5) == 0


async def test_the_client_and_the_bare_route_understand_each_other() -> None:
    """As many bytes as were asked for, over and over on one connection; a refusal is told."""
    async with served(bare_app(900)) as server, Connections(server.port, 2) as connections:
        answers: list[Answer] = []

        async def order(connection: Connection) -> None:
            request = post("/v1/orders", orjson.dumps(ORDER), token="t")
            answers.append(await connection.send(request))

        closed = await closed_loop(connections, order, 0.05)
        steady = await open_loop(connections, order, 0.1, 100)
        refused = await connections.all[0].send(post("/v1/orders", b"{}", key="k"))
    assert {(answer.status, len(answer.body)) for answer in answers} == {(201, 900)}
    assert len(answers) == len(closed.took_s) + len(steady.took_s)
    assert len(steady.took_s) == 10
    assert closed.rate > 0
    assert refused.status == 422
