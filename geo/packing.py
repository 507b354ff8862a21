"""Named numpy arrays as bytes: a compressed ``.npz`` without pickle, tagged with what it holds."""

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

_TAG = "format"


def pack(tag: str, arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Arrays as bytes that ``unpack`` reads. The same arrays always give the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{_TAG: np.array(tag)}, **arrays)
    return buffer.getvalue()


def unpack(tag: str, data: bytes, names: Iterable[str]) -> dict[str, NDArray[np.generic]]:
    """The arrays in ``data``. Raises ValueError if it is damaged, of another tag, or lacks a name.

    Nothing in ``data`` is ever executed: arrays of objects are refused.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays: dict[str, NDArray[np.generic]] = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"these {len(data)} bytes are not a {tag}: {error}") from error
    found = str(arrays.pop(_TAG, np.array("untagged")))
    if found != tag:
        raise ValueError(f"these bytes hold a {found}, not a {tag}")
    missing = sorted(set(names) - set(arrays))
    if missing:
        raise ValueError(f"this {tag} lacks {', '.join(missing)}")
    return arrays


def pack_texts(texts: Iterable[str]) -> NDArray[np.uint8]:
    """Texts (without NUL) as one array of UTF-8 bytes, each ended by NUL."""
    return np.frombuffer("".join(text + "\0" for text in texts).encode(), dtype=np.uint8)


def unpack_texts(data: NDArray[np.generic]) -> tuple[str, ...]:
    """The texts again. Raises ValueError for bytes that are not UTF-8."""
    return tuple(data.astype(np.uint8).tobytes().decode().split("\0")[:-1])
