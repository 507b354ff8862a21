"""Every bound of the stream, with what happens when it is reached."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Times are real seconds (packets do not hurry for a simulation), sizes are bytes."""

    # Without a ticket by then: closed with 4401.
    auth_timeout_s: float = 5.0
    # Told to clients; a peer that answers no ping for another such time is dropped.
    heartbeat_s: float = 25.0
    # How often a rider's app should send positions; told to clients.
    position_interval_s: float = 4.0
    # A longer frame closes the socket with 1009.
    max_frame_bytes: int = 16 * 1024
    # One more is refused with ``too_many_channels``.
    max_channels: int = 50
    # Ops waiting for a slow one (a subscribe); one more is refused with ``busy``.
    max_waiting_ops: int = 128
    # Events that wait for a slow socket; above it the socket is closed with 4408.
    max_queue_bytes: int = 512 * 1024
    # Events replayed to a resuming client; one that missed more gets a snapshot.
    max_replay: int = 500
    # Events held back while a subscriber's snapshot is read; above it history is asked.
    max_buffered: int = 256
    # Token buckets of a session: refused with ``rate_limited``, and closed with 1008 after
    # ``max_violations`` refusals in a row.
    ops_per_s: float = 20.0
    ops_burst: float = 100.0
    position_frames_per_s: float = 2.0
    position_frames_burst: float = 20.0
    max_points: int = 200
    max_violations: int = 200
    # What redeeming, authorising or taking a snapshot may take: refused with ``busy``.
    port_timeout_s: float = 5.0
    # One write a socket in that time: at 20 ms coalescing pays and nobody can see the delay.
    tick_s: float = 0.02
    # How often heads are compared with Postgres, and how often revoked log-ins are asked for.
    reconcile_s: float = 2.0
    revocation_s: float = 2.0
    # How long a closing socket may take to read what is left for it.
    close_grace_s: float = 5.0

    def __post_init__(self) -> None:
        assert self.revocation_s < 5, "a revoked login ends within 5 s"
        assert self.max_frame_bytes <= 65_536, "the gateway assembles fragments in memory"
        assert self.max_replay >= 1
        assert self.max_queue_bytes >= self.max_frame_bytes
