"""``python -m simulator.provider``: the sandbox payment provider on one loopback port.

When it listens it prints one line to standard output, ``{"event": "listening", "port": 1234,
"ports": {…}}``, the latter with a port of its own for each further wire; logs go to standard error.
Ends on SIGTERM after the requests at hand, with exit code 0; its store outlives it, however it
ends.  Exit code 2 and one sentence say what is wrong with the arguments.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import uvicorn

from kit.log import configure
from simulator.provider.app import Provider, SandboxWire
from simulator.provider.engine import EventRenderer
from simulator.provider.host import Wire
from simulator.provider.model import Payment
from simulator.provider.ports import WirePorts
from simulator.provider.store import StoreUnusable
from simulator.provider.thread import StoreThread
from simulator.provider.webhooks import Courier, Target
from simulator.provider.wires import load_wires

DRAIN_S = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulator.provider", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--store", type=Path, required=True, help="SQLite file, made when missing")
    parser.add_argument("--webhook-url", help="where events are posted; none are made without it")
    secret = parser.add_mutually_exclusive_group(required=True)
    secret.add_argument("--secret", help="signs webhooks; other users can see it in `ps`")
    secret.add_argument("--secret-file", type=Path, help="a file with the secret")
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--api-key", help="what clients present; the secret unless given")
    key.add_argument("--api-key-file", type=Path)
    parser.add_argument(
        "--wires-file",
        type=Path,
        help="further wires with their keys, as JSON (simulator/provider/wires.py)",
    )
    parser.add_argument(
        "--time-scale",
        type=float,
        default=1.0,
        help="factor on the provider's own waits, such as 0.05 in tests",
    )
    return parser


def _secret(given: str | None, file: Path | None) -> str | None:
    return file.read_text(encoding="utf-8").strip() if file else given


def _renderer(wires: Mapping[str, Wire], targets: Mapping[str, Target]) -> EventRenderer | None:
    """Each payment's events in the form of its wire, where that wire has an address."""

    def render(event_id: str, event_type: str, key: str, payment: Payment) -> bytes | None:
        if payment.wire not in targets:
            return None
        return wires[payment.wire].render_event(event_id, event_type, key, payment)

    return render if targets else None


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        secret = _secret(options.secret, options.secret_file)
        api_key = _secret(options.api_key, options.api_key_file) or secret
    except OSError as error:
        parser.error(f"cannot read {error.filename}: {error.strerror}")
    if not secret or not api_key:
        parser.error("the secret is empty")
    if not (math.isfinite(options.time_scale) and options.time_scale > 0):
        parser.error("--time-scale is a number above 0")
    configure(process="provider")
    try:
        listener = socket.create_server((options.host, options.port), backlog=512)
    except OSError as error:
        parser.error(f"cannot listen on {options.host} port {options.port}: {error.strerror}")
    try:
        given = load_wires(options.wires_file)
        listeners = {
            wire.name: socket.create_server((options.host, given.port(wire.name)), backlog=512)
            for wire in given.wires
        }
    except (OSError, ValueError) as error:
        parser.error(f"--wires-file: {error}")
    sandbox, others = SandboxWire(api_key, secret), given.wires
    targets = {
        wire.name: Target(url, wire.sign)
        for wire in (sandbox, *others)
        if (url := given.webhook_url(wire.name) or (options.webhook_url or ""))
    }
    renderer = _renderer({wire.name: wire for wire in (sandbox, *others)}, targets)
    try:
        thread = StoreThread(options.store, renderer, options.time_scale)
    except StoreUnusable as error:
        parser.error(str(error))
    courier = Courier(thread, targets, time_scale=options.time_scale) if targets else None
    ports = WirePorts(listeners)
    provider = Provider(thread, courier, sandbox, others, options.time_scale, ports)
    config = uvicorn.Config(
        provider.application(),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
    # uvicorn raises the signal again after its shutdown; by then nothing is left to be ended.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    ready = {"event": "listening", "port": listener.getsockname()[1], "ports": ports.numbers()}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    with listener:
        server = uvicorn.Server(config)
        ports.serve_with(server, first=1)
        server.run(sockets=[listener, *ports.sockets()])
    return 1 if provider.failed else 0


if __name__ == "__main__":
    sys.exit(main())
