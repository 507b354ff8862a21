"""What a client can prove of a channel: no event missing, none twice.  Pure.

Each socket's view of a channel is judged alone: within one epoch every event follows the one
before it by exactly one, over reconnects too, unless the server said ``recovered: false`` and gave
a snapshot to go on from.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class ChannelLog:
    """The cursor of one channel, and what was wrong with what came in."""

    channel: str
    epoch: str | None = None
    seq: int | None = None
    events: int = 0
    resumed: int = 0
    restarted: int = 0
    violations: list[str] = field(default_factory=list)
    _snapshot_due: bool = False

    @property
    def since(self) -> dict[str, object] | None:
        """What to send as ``since``; None before the first snapshot."""
        if self.epoch is None or self.seq is None:
            return None
        return {"epoch": self.epoch, "seq": self.seq}

    def on_subscribed(self, epoch: str, seq: int, recovered: bool, asked: bool) -> None:
        """The answer to a subscribe; ``asked`` when it was sent with ``since``."""
        if recovered:
            if not asked:
                self._violate("recovered without since")
            elif epoch != self.epoch:
                self._violate("recovered under another epoch")
            elif self.seq is not None and seq < self.seq:
                self._violate(f"recovered to {seq}, which is before {self.seq}")
            self.resumed += 1
            return
        self._snapshot_due = True
        self.restarted += 1 if asked else 0

    def on_snapshot(self, epoch: str, seq: int) -> None:
        """A whole state: what came before no longer matters."""
        if epoch == self.epoch and self.seq is not None and seq < self.seq:
            self._violate(f"snapshot at {seq}, which is before {self.seq}")
        self.epoch, self.seq = epoch, seq
        self._snapshot_due = False

    def on_event(self, seq: int) -> bool:
        """Whether the event is the next one; False counts as a violation."""
        self.events += 1
        if self.seq is None or self._snapshot_due:
            self._violate(f"event {seq} before the snapshot")
            return False
        expected = self.seq + 1
        if seq != expected:
            self._violate(f"event {seq} instead of {expected}")
            # Go on from here: one gap is one violation.
            self.seq = max(self.seq, seq)
            return False
        self.seq = seq
        return True

    def _violate(self, what: str) -> None:
        self.violations.append(f"{self.channel}: {what}")
