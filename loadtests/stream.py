"""The stream from a load test: a WebSocket whose connects, events and faults locust counts.

The time of an event is how long after its transaction it was here; that of a position how long
after the phone's fix.
"""

from __future__ import annotations

import json
import time
from typing import Any

import websocket
from locust.env import Environment

from loadtests.world import VirtualClock

CONNECT_TIMEOUT_S = 10.0
# Over it an event is not news any more; counted as a failure.
REPLY_TIMEOUT_S = 10.0


class StreamClosed(Exception):
    """The server closed the socket, or it was lost."""


class Stream:
    """One authenticated socket with one channel.  Raises ``StreamClosed`` when it ends."""

    def __init__(
        self, environment: Environment, clock: VirtualClock, host: str, ticket: str, channel: str
    ) -> None:
        self._environment = environment
        self._clock = clock
        self.kind = channel.partition(":")[0]
        started_s = time.perf_counter()
        try:
            self._socket = websocket.create_connection(
                host.replace("http", "ws", 1) + "/v1/stream",
                timeout=CONNECT_TIMEOUT_S,
                # An app is no web page of ours, so it must not claim an origin.
                suppress_origin=True,
            )
            self.send({"op": "auth", "ticket": ticket})
            self._expect("ready")
            self.send({"op": "subscribe", "id": 1, "channel": channel})
            self._expect("subscribed")
            self.snapshot: dict[str, Any] = self._expect("snapshot")["data"]
        except (OSError, websocket.WebSocketException, StreamClosed) as error:
            # The library's text goes on with headers, which differ each time.
            reason = StreamClosed(str(error).partition(" -+-+- ")[0])
            self._report("connect", time.perf_counter() - started_s, reason)
            raise reason from error
        self._report("connect", time.perf_counter() - started_s)

    def send(self, op: dict[str, Any]) -> None:
        """Send one op."""
        try:
            self._socket.send(json.dumps(op))
        except (OSError, websocket.WebSocketException) as error:
            raise StreamClosed(str(error)) from error

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next frame, or None when none came in that time."""
        self._socket.settimeout(timeout_s)
        try:
            text = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            return None
        except (OSError, websocket.WebSocketException) as error:
            raise StreamClosed(str(error)) from error
        if not text:
            raise StreamClosed("closed by the server")
        frame: dict[str, Any] = json.loads(text)
        match frame["op"]:
            case "event" | "position":
                self._report(frame["op"], self._clock.age_s(frame["at"]), length=len(text))
            case "error":
                self._report("error", 0.0, RuntimeError(f"{frame['code']}: {frame['detail']}"))
        return frame

    def close(self) -> None:
        """Leave; the server need not answer."""
        self._socket.close(timeout=0)

    def _expect(self, op: str) -> dict[str, Any]:
        deadline_s = time.perf_counter() + REPLY_TIMEOUT_S
        while (left_s := deadline_s - time.perf_counter()) > 0:
            frame = self.receive(left_s)
            if frame is not None and frame["op"] in (op, "error"):
                if frame["op"] == "error":
                    raise StreamClosed(f"refused: {frame['code']}")
                return frame
        raise StreamClosed(f"no {op} within {REPLY_TIMEOUT_S:g} s")

    def _report(
        self, what: str, took_s: float, error: Exception | None = None, length: int = 0
    ) -> None:
        self._environment.events.request.fire(
            request_type="WS",
            name=f"{self.kind}: {what}",
            response_time=took_s * 1000,
            response_length=length,
            exception=error,
            context={},
        )
