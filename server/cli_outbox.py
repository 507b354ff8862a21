"""``darkstore outbox``: events that nobody could take, and giving them another chance."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from kit import dead_letters
from kit.dead_letters import DeadLetter
from kit.wire import rfc3339
from server.consumers import CONSUMERS
from server.platform import attached, data_directory
from server.wiring import open_services


def _view(letter: DeadLetter) -> dict[str, object]:
    return {
        "outbox_id": letter.outbox_id,
        "stream": letter.stream,
        "seq": letter.seq,
        "type": letter.type,
        "error": letter.error,
        "died_at": rfc3339(letter.died_at),
    }


async def show_dead(data_dir: Path | None, stream: str | None, *, as_json: bool) -> int:
    """Print the dead letters."""
    async with attached(data_directory(data_dir)) as settings:
        async with open_services(settings, process="outbox") as services:
            async with services.database.begin() as conn:
                found = await dead_letters.waiting(conn, stream=stream)
    if as_json:
        _print({"items": [_view(letter) for letter in found]})
        return 0
    table = Table("id", "stream", "seq", "type", "died at", "error", box=None, pad_edge=False)
    for letter in found:
        table.add_row(
            str(letter.outbox_id), letter.stream, str(letter.seq), letter.type,
            rfc3339(letter.died_at), letter.error,
        )  # fmt: skip
    console = Console()
    if found:
        console.print(table)
    else:
        console.print("No dead letters.")
    return 0


async def replay_dead(
    data_dir: Path | None, stream: str | None, outbox_id: int | None, *, as_json: bool
) -> int:
    """Run their consumers again; 1 when one failed again, or the one asked for is not there."""
    async with attached(data_directory(data_dir)) as settings:
        async with open_services(settings, process="outbox") as services:
            async with services.database.begin() as conn:
                letters = await dead_letters.waiting(conn, stream=stream, outbox_id=outbox_id)
            results = [
                await dead_letters.replay(services.database, CONSUMERS, letter)
                for letter in letters
            ]
    failed = [result for result in results if result.error is not None]
    if as_json:
        _print(
            {
                "replayed": len(results) - len(failed),
                "failed": [{**_view(one.letter), "error": one.error} for one in failed],
            }
        )
    else:
        for one in failed:
            sys.stdout.write(f"{one.letter.outbox_id}  failed again: {one.error}\n")
        sys.stdout.write(f"{len(results) - len(failed)} of {len(results)} replayed.\n")
    missing = outbox_id is not None and not results
    if missing:
        sys.stderr.write(f"darkstore: {outbox_id} is not a dead letter that waits.\n")
    return 1 if failed or missing else 0


def _print(value: object) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
