"""The event bus: every relayed event for programs outside, on a broker of the operator's choice.

Events leave at least once, in the order of each stream (a repeat may follow later events after a
publisher's death), as JSON ``{"id", "stream", "seq", "type", "at", "data"}``.  ``id`` is the same
at every repeat.  Nothing in Darkstore itself listens to the bus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, Field, SecretStr, field_validator

from kit.errors import Busy
from kit.wire import rfc3339

# `home`: the Redis that the live layer uses.
HOME = "home"
SCHEMES = frozenset({"redis", "rediss", "nats", "tls", "amqp", "amqps"})


class BusUnavailable(Busy):
    code = "event_bus_unavailable"
    title = "The event bus does not answer"


class BusSettings(BaseModel):
    """``url`` None: no bus, and no cost."""

    url: SecretStr | None = None
    # The Redis stream, the JetStream stream and subject prefix, or the RabbitMQ exchange.
    name: str = Field("darkstore", pattern=r"^[a-z][a-z0-9_-]{0,40}$")
    # Redis keeps about this many events; the other brokers have limits of their own.
    redis_max_events: int = Field(200_000, ge=1_000)
    # Real seconds for a batch.
    deadline_s: float = Field(10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _known(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            text = url.get_secret_value()
            if text != HOME and urlsplit(text).scheme not in SCHEMES:
                raise ValueError(
                    f"a bus URL is {HOME!r} or begins with {', '.join(sorted(SCHEMES))}"
                )
        return url


@dataclass(frozen=True, slots=True)
class BusEvent:
    """A relayed event; ``outbox_id`` numbers it for its publisher."""

    outbox_id: int
    stream: str
    seq: int
    type: str
    at: datetime
    data: Any

    @property
    def id(self) -> str:
        return f"evt_{self.outbox_id}"

    def message(self) -> bytes:
        """What a consumer gets."""
        return orjson.dumps(
            {
                "id": self.id,
                "stream": self.stream,
                "seq": self.seq,
                "type": self.type,
                "at": rfc3339(self.at),
                "data": self.data,
            }
        )


class EventBus(Protocol):
    """One broker.  ``connect`` before, ``close`` after everything else."""

    async def connect(self) -> None:
        """Raises ``BusUnavailable``."""
        ...

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """Hand over a batch in order; returns when the broker has all of it.

        Raises ``BusUnavailable``: then any part of the batch may be there, and all of it is sent
        again.
        """
        ...

    async def close(self) -> None: ...
