"""``darkstore reconcile``: every gateway's whole log against ours."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from payments.gateway import GatewayUnavailable
from payments.reconciler import Run, Scope, reconcile
from server.platform import attached, data_directory
from server.wiring import open_services


async def reconcile_all(data_dir: Path | None, gateway: str | None, *, as_json: bool) -> int:
    """Compare and print; 1 when anything differs or a log cannot be read.  Raises ValueError."""
    runs: list[Run] = []
    unread: dict[str, str] = {}
    async with attached(data_directory(data_dir)) as settings:
        async with open_services(settings, process="reconcile", pool_size=4) as services:
            logs = services.gateways.logs()
            if gateway is not None and gateway not in logs:
                known = ", ".join(logs) or "none"
                raise ValueError(f"The gateway {gateway} lists nothing; those that do: {known}.")
            for name in [gateway] if gateway else logs:
                try:
                    runs.append(await reconcile(services.database, name, logs[name], Scope.FULL))
                except GatewayUnavailable as error:
                    unread[name] = error.detail
    if as_json:
        sys.stdout.write(orjson.dumps(_as_json(runs, unread)).decode() + "\n")
    else:
        _print(runs, unread)
    return 1 if unread or any(run.differences for run in runs) else 0


def _as_json(runs: list[Run], unread: dict[str, str]) -> dict[str, object]:
    return {
        "gateways": [
            {
                "gateway": run.gateway,
                "compared": run.compared,
                "differences": [
                    {
                        "kind": one.kind.value,
                        "order_id": one.order_id,
                        "operation_id": one.ours.id if one.ours else None,
                        "gateway_operation_id": one.theirs.operation_id if one.theirs else None,
                        "amount_minor": one.ours.amount_minor if one.ours else None,
                        "their_amount_minor": one.theirs.amount.amount_minor
                        if one.theirs
                        else None,
                    }
                    for one in run.differences
                ],
            }
            for run in runs
        ],
        "unread": unread,
    }


def _print(runs: list[Run], unread: dict[str, str]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("gateway", "compared", "differences"):
        table.add_column(title, overflow="fold")
    for run in runs:
        told = "\n".join(one.sentence() for one in run.differences) or "none"
        table.add_row(run.gateway, str(run.compared), told)
    for name, detail in unread.items():
        table.add_row(name, "not read", detail)
    Console().print(table)
