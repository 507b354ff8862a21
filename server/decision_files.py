"""Files of dispatch decisions: one city and hour each, written at the end, read in sequence.

A file begins with ``MAGIC``.  Then frames: the payload's length and CRC-32 (both little-endian,
four bytes), and the payload, which is MessagePack under zlib.  A writer that dies leaves at most
one frame that is cut short; a reader stops there and says so.
"""

from __future__ import annotations

import heapq
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from dispatch.codec import CodecError
from dispatch.decision import Decision, read_decision, write_decision

MAGIC: Final = b"darkstore decisions 1\n"
SUFFIX: Final = ".dlog"
# At 200 orders and 300 riders level 3 takes half the time of level 6, for 2 % more bytes.
LEVEL: Final = 3
# Far above any real decision: what is longer is not a decision but damage.
FRAME_MAX_BYTES: Final = 64 * 1024 * 1024
PAYLOAD_MAX_BYTES: Final = 1024 * 1024 * 1024

_HEAD: Final = struct.Struct("<II")


class DamagedLog(ValueError):
    """A frame is cut short or is not what was written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision and where it was read."""

    decision: Decision
    path: Path
    offset: int


def pack(decision: Decision) -> bytes:
    """The decision as one frame."""
    payload = zlib.compress(msgspec.msgpack.encode(write_decision(decision)), LEVEL)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def file_name(city_id: str, at_s: float, writer: str) -> str:
    """The file of a city and hour, below the log's directory; each writer has its own."""
    hour = datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y%m%dT%H")
    return f"{city_id}/{hour}-{writer}{SUFFIX}"


def append(path: Path, frame: bytes) -> int:
    """Write a frame at the end of a file, which is made if it is not there; where it starts.

    Raises OSError; what was written of the frame is taken back then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The content names customers' places: for the owner's eyes alone.
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
        start = file.tell()
        try:
            if start == 0:
                file.write(MAGIC)
                start = len(MAGIC)
            file.write(frame)
            file.flush()
        except OSError:
            os.ftruncate(file.fileno(), 0 if start == len(MAGIC) else start)
            raise
        return start


def read_at(path: Path, offset: int) -> Decision:
    """The decision that starts at a byte of a file.

    Raises OSError, DamagedLog, or ValueError for one that this version cannot read.
    """
    with path.open("rb") as file:
        _check_magic(file, path)
        file.seek(offset)
        raw = _next(file, path)
    if raw is None:
        raise DamagedLog(f"{path} has no decision at byte {offset}")
    return _decision(raw, path, offset)


def read(
    path: Path, tell: Callable[[str], None] = lambda _: None, naming: str = ""
) -> Iterator[Entry]:
    """Every decision of a file in sequence, up to its end or its first damage, which is told.

    naming: leave out those in which this id does not occur, without reading them in full.
    Raises OSError, DamagedLog if it is not such a file, ValueError for decisions of another form.
    """
    with path.open("rb") as file:
        _check_magic(file, path)
        while True:
            offset = file.tell()
            try:
                raw = _next(file, path)
            except DamagedLog as damage:
                tell(str(damage))
                return
            if raw is None:
                return
            if naming.encode() in raw:
                yield Entry(_decision(raw, path, offset), path, offset)


def read_all(
    place: Path, tell: Callable[[str], None] = lambda _: None, naming: str = ""
) -> Iterator[Entry]:
    """Every decision below a path in sequence of time.  Raises as ``read`` and ``files_of`` do."""
    files = [read(path, tell, naming) for path in files_of(place)]
    return heapq.merge(*files, key=lambda entry: entry.decision.snapshot.now_s)


def files_of(place: Path) -> list[Path]:
    """The files that a path stands for, oldest first: itself, or all below a directory.

    Raises ValueError when there is none.
    """
    if place.is_dir():
        found = sorted(place.rglob(f"*{SUFFIX}"), key=lambda path: (path.name, path))
    else:
        found = [place] if place.exists() else []
    if not found:
        raise ValueError(f"There is no decision log at {place}.")
    return found


def _check_magic(file: BinaryIO, path: Path) -> None:
    if file.read(len(MAGIC)) != MAGIC:
        raise DamagedLog(f"{path} is not a log of dispatch decisions")


def _next(file: BinaryIO, path: Path) -> bytes | None:
    """What the frame at the file's position holds; None at its end."""
    offset = file.tell()
    head = file.read(_HEAD.size)
    if not head:
        return None
    where = f"{path}, byte {offset}"
    if len(head) < _HEAD.size:
        raise DamagedLog(f"{where}: the last decision is cut short")
    length, checksum = _HEAD.unpack(head)
    if length > FRAME_MAX_BYTES:
        raise DamagedLog(f"{where}: no decision is {length} bytes long")
    payload = file.read(length)
    if len(payload) < length:
        raise DamagedLog(f"{where}: the last decision is cut short")
    if zlib.crc32(payload) != checksum:
        raise DamagedLog(f"{where}: the checksum does not agree")
    try:
        return zlib.decompressobj().decompress(payload, PAYLOAD_MAX_BYTES)
    except zlib.error as error:
        raise DamagedLog(f"{where}: {error}") from None


def _decision(raw: bytes, path: Path, offset: int) -> Decision:
    where = f"{path}, byte {offset}"
    try:
        plain = msgspec.msgpack.decode(raw)
    except msgspec.DecodeError as error:
        raise DamagedLog(f"{where}: {error}") from None
    try:
        return read_decision(plain)
    except CodecError as error:
        engine = plain.get("engine") if type(plain) is dict else None
        raise CodecError(
            f"{where}: {error}; it was written by version {engine or 'unknown'}, with which it can"
            " be read"
        ) from None
