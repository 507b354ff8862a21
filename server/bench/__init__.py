"""The benchmarks behind ``darkstore bench``: each measures its reference in the same run."""

from __future__ import annotations

import asyncio
from pathlib import Path


async def run(
    name: str,
    data_dir: Path,
    *,
    seconds: float,
    connections: int,
    rounds: int,
    lines: int,
    size: float = 1.0,
    decisions: int = 100,
    osm: Path | None = None,
    as_json: bool,
) -> int:
    """Run a benchmark on fresh engines under ``data_dir``; the exit code, 1 for a missed goal.

    ``size``, ``decisions`` and ``osm`` are for ``dispatch``, which needs no engines.
    """
    from server.bench.api import bench_api
    from server.bench.checkout import bench_checkout
    from server.bench.report import print_report

    if name == "checkout":
        report = await bench_checkout(
            data_dir / "engines", seconds=seconds, connections=connections, rounds=rounds,
            lines=lines,
        )  # fmt: skip
    elif name == "dispatch":
        from server.bench.dispatch import bench_dispatch

        report = await asyncio.to_thread(bench_dispatch, osm=osm, size=size, decisions=decisions)
    else:
        report = await bench_api(data_dir, seconds=seconds, connections=connections, rounds=rounds)
    print_report(report, as_json=as_json)
    return 0 if report.met else 1
