"""A short city through the program itself, on a whole system of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]


async def _simulate(data_dir: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.cli", "simulate", "--data-dir", str(data_dir),
        "--speed", "30", "--seed", "5", "--json", *arguments,
        cwd=ROOT, env={**os.environ, "DARKSTORE_DATA_DIR": str(data_dir)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, orjson.loads(output.strip().splitlines()[-1])


@pytest.mark.timeout(150)
async def test_a_short_city_delivers_without_gaps_and_errors(tmp_path: Path) -> None:
    """In four minutes orders are delivered, every stream is gap-free, every invariant holds."""
    code, result = await _simulate(tmp_path, "--minutes", "4", "--orders-per-hour", "240")
    orders, stream = result["orders"], result["stream"]
    assert orders["demanded"] >= 8
    assert orders["placed"] > 0.8 * orders["demanded"]
    assert orders["delivered"] > 0.7 * orders["placed"]
    assert orders["gave_up_by_reason"] == {}
    assert result["server_errors"] == 0, result["http"]["server_error_examples"]
    assert (stream["gaps"], stream["state_mismatches"]) == (0, 0), stream
    assert stream["states_compared"] > 0
    assert stream["positions_seen"] > 0
    assert result["offers"]["accepted"] >= orders["delivered"]
    assert [check for check in result["verify"]["checks"] if check["broken_rows"]] == []
    assert code == 0
