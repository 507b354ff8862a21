"""One encoded message on its way to many sockets."""

from __future__ import annotations

import struct

# A server's text frame: FIN and opcode 1, no mask (RFC 6455, section 5.2).
_FIN_TEXT = 0x81


class Frame:
    """A JSON text, encoded once; each transport's form of it is made once too, when asked for."""

    __slots__ = ("_text", "_wire", "payload")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self._text: str | None = None
        self._wire: bytes | None = None

    def __len__(self) -> int:
        return len(self.payload)

    @property
    def text(self) -> str:
        """The message as ASGI servers want it."""
        if self._text is None:
            self._text = self.payload.decode()
        return self._text

    @property
    def wire(self) -> bytes:
        """The message behind its WebSocket header, as it goes down the socket."""
        if self._wire is None:
            size = len(self.payload)
            if size < 126:
                header = struct.pack("!BB", _FIN_TEXT, size)
            elif size < 1 << 16:
                header = struct.pack("!BBH", _FIN_TEXT, 126, size)
            else:
                header = struct.pack("!BBQ", _FIN_TEXT, 127, size)
            self._wire = header + self.payload
        return self._wire
