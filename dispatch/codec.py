"""Snapshots, plans and parameters as plain data, and back.

Plain data is what JSON or MessagePack can carry: dictionaries, lists, strings, numbers, and bytes
for arrays (in JSON their base64).  The form follows from the dataclasses' own annotations, so a
field that is added to one is written and read without a change here.

Strict where a mistake would hide: an unknown field, a wrong type or a missing required field is a
``CodecError`` that names the place.  A missing field with a default takes it, so a record that is
older than a field can still be read.

Exact: what is read equals what was written, bit for bit, so that a recorded question gets the same
answer again.  Arrays are narrowed only where nothing is lost.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from dispatch.result import Plan

T = TypeVar("T")

# Plain data has no static type of its own; every value is checked where it is read.
Plain = Any
_Writer = Callable[[Any], Plain]
_Reader = Callable[[Plain, str], Any]

# Names that annotations use without importing them at run time.
_FORWARD: Final = {"Plan": Plan}
_BY_NAME: Final = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
# In a narrowed array of seconds this stands for infinity, as in `TravelTimes`.
_NO_WAY: Final = np.iinfo(np.uint16).max


class CodecError(ValueError):
    """The data does not have the form of what it should describe; the text says where."""


@dataclass(frozen=True, slots=True)
class _Codec:
    write: _Writer
    read: _Reader


_made: dict[Any, _Codec] = {}


def encode(value: object) -> Plain:
    """A dataclass of this package as plain data."""
    return _codec(type(value)).write(value)


def decode(kind: type[T], plain: Plain) -> T:
    """The ``kind`` that ``encode`` has written.

    Raises CodecError; ValueError from the class itself for values that it does not allow.
    """
    result: T = _codec(kind).read(plain, kind.__name__.lower())
    return result


def _codec(hint: Any) -> _Codec:
    """How a value of an annotated type is written and read."""
    if hint not in _made:
        _made[hint] = _make(hint)
    return _made[hint]


def _make(hint: Any) -> _Codec:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is np.ndarray:
        return _Codec(_write_array, _read_array)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _Codec(lambda value: value.value, _enum_reader(hint))
    if isinstance(hint, type) and is_dataclass(hint):
        return _dataclass_codec(hint)
    if origin in (Union, UnionType):
        return _union(hint, inner)
    if origin is Literal:
        return _Codec(lambda value: value, _literal_reader(inner))
    if origin is tuple:
        return _tuple_codec(inner)
    if origin is frozenset:
        return _set_codec(_codec(inner[0]))
    if origin is Mapping or origin is dict:
        return _mapping_codec(_codec(inner[0]), _codec(inner[1]))
    raise TypeError(f"the codec does not know how to write {hint}")


def _complain(path: str, wanted: str, plain: Plain) -> CodecError:
    shown = repr(plain)
    return CodecError(f"{path}: {wanted} expected, not {shown[:60]}{'…' * (len(shown) > 60)}")


def _read_int(plain: Plain, path: str) -> int:
    if type(plain) is not int:
        raise _complain(path, "an integer", plain)
    return plain


def _write_float(value: float) -> Plain:
    # Numbers of numpy are written as Python's; JSON has no infinity.
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _read_float(plain: Plain, path: str) -> float:
    if type(plain) is float or type(plain) is int:
        return float(plain)
    if type(plain) is str and plain in _BY_NAME:
        return _BY_NAME[plain]
    raise _complain(path, "a number", plain)


def _exactly(kind: type, name: str) -> _Codec:
    def read(plain: Plain, path: str) -> Any:
        if type(plain) is not kind:
            raise _complain(path, name, plain)
        return plain

    return _Codec(kind, read)


_made.update(
    {
        str: _exactly(str, "a text"),
        bool: _exactly(bool, "true or false"),
        int: _Codec(int, _read_int),
        float: _Codec(_write_float, _read_float),
    }
)


def _enum_reader(kind: type[Enum]) -> _Reader:
    def read(plain: Plain, path: str) -> Any:
        try:
            return kind(plain)
        except ValueError:
            known = ", ".join(str(one.value) for one in kind)
            raise _complain(path, f"one of {known}", plain) from None

    return read


def _literal_reader(values: tuple[Any, ...]) -> _Reader:
    def read(plain: Plain, path: str) -> Any:
        if plain not in values:
            raise _complain(path, f"one of {', '.join(map(str, values))}", plain)
        return plain

    return read


def _union(hint: Any, inner: tuple[Any, ...]) -> _Codec:
    """``X | None``, or a choice of dataclasses, which is written with its name."""
    kinds = [one for one in inner if one is not NoneType]
    optional = len(kinds) < len(inner)
    if len(kinds) == 1:
        codec = _codec(kinds[0])
    elif all(isinstance(one, type) and is_dataclass(one) for one in kinds):
        codec = _choice_codec({one.__name__: one for one in kinds})
    else:
        # Any other would have to be read by guessing.
        raise TypeError(f"the codec does not know how to write {hint}")
    if not optional:
        return codec
    return _Codec(
        lambda value: None if value is None else codec.write(value),
        lambda plain, path: None if plain is None else codec.read(plain, path),
    )


def _choice_codec(kinds: Mapping[str, type]) -> _Codec:
    def read(plain: Plain, path: str) -> Any:
        name = plain.get("type") if type(plain) is dict else ""
        if type(name) is not str or name not in kinds:
            raise _complain(path, f"an object with a type of {', '.join(kinds)}", plain)
        rest = {key: value for key, value in plain.items() if key != "type"}
        return _codec(kinds[name]).read(rest, path)

    return _Codec(
        lambda value: {"type": type(value).__name__, **_codec(type(value)).write(value)}, read
    )


def _tuple_codec(inner: tuple[Any, ...]) -> _Codec:
    if len(inner) == 2 and inner[1] is Ellipsis:
        codec = _codec(inner[0])
        return _Codec(
            lambda value: [codec.write(one) for one in value],
            lambda plain, path: tuple(
                codec.read(one, f"{path}[{at}]") for at, one in enumerate(_list(plain, path))
            ),
        )
    codecs = [_codec(one) for one in inner]

    def read(plain: Plain, path: str) -> tuple[Any, ...]:
        if len(_list(plain, path)) != len(codecs):
            raise _complain(path, f"{len(codecs)} values", plain)
        return tuple(
            codec.read(one, f"{path}[{at}]")
            for at, (codec, one) in enumerate(zip(codecs, plain, strict=True))
        )

    return _Codec(
        lambda value: [codec.write(one) for codec, one in zip(codecs, value, strict=True)], read
    )


def _set_codec(codec: _Codec) -> _Codec:
    return _Codec(
        lambda value: sorted(codec.write(one) for one in value),
        lambda plain, path: frozenset(
            codec.read(one, f"{path}[{at}]") for at, one in enumerate(_list(plain, path))
        ),
    )


def _list(plain: Plain, path: str) -> list[Plain]:
    if type(plain) is not list:
        raise _complain(path, "a list", plain)
    return plain


def _mapping_codec(key: _Codec, value: _Codec) -> _Codec:
    def read(plain: Plain, path: str) -> dict[Any, Any]:
        if type(plain) is not dict:
            raise _complain(path, "an object", plain)
        return {
            key.read(name, path): value.read(one, f"{path}.{name}") for name, one in plain.items()
        }

    return _Codec(
        lambda mapping: {key.write(name): value.write(one) for name, one in mapping.items()}, read
    )


def _dataclass_codec(kind: type) -> _Codec:
    hints = get_type_hints(kind, localns=dict(_FORWARD))
    # Made on first use: a plan holds trips, and a snapshot may hold a plan.
    parts: dict[str, tuple[_Codec, Field[Any]]] = {}

    def codecs() -> dict[str, tuple[_Codec, Field[Any]]]:
        if not parts:
            parts.update(
                (one.name, (_codec(hints[one.name]), one)) for one in fields(kind) if one.init
            )
        return parts

    def write(value: Any) -> Plain:
        return {name: codec.write(getattr(value, name)) for name, (codec, _) in codecs().items()}

    def read(plain: Plain, path: str) -> Any:
        if type(plain) is not dict:
            raise _complain(path, "an object", plain)
        known = codecs()
        for name in plain:
            if name not in known:
                raise CodecError(f"{path}.{name}: there is no such field")
        for name, (_, one) in known.items():
            if name not in plain and one.default is MISSING and one.default_factory is MISSING:
                raise CodecError(f"{path}.{name} is missing")
        return kind(
            **{name: known[name][0].read(one, f"{path}.{name}") for name, one in plain.items()}
        )

    return _Codec(write, read)


def _write_array(value: NDArray[Any]) -> Plain:
    """dtype: what the reader gets. stored: what ``data`` holds, row by row, little-endian."""
    stored = np.ascontiguousarray(_narrowed(value))
    return {
        "dtype": value.dtype.str,
        "stored": stored.dtype.newbyteorder("<").str,
        "shape": list(value.shape),
        "data": stored.astype(stored.dtype.newbyteorder("<"), copy=False).tobytes(),
    }


def _narrowed(value: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in fewer bytes, or the array as it is."""
    if value.dtype.kind in "iu" and value.size:
        least = np.promote_types(*map(np.min_scalar_type, (value.min(), value.max())))
        # A negative number beside one of 53 bits or more would be promoted to a float.
        return value.astype(least) if least.kind in "iu" else value
    if value.dtype.kind != "f" or not value.size:
        return value
    seconds = np.where(np.isposinf(value), _NO_WAY, value)
    with np.errstate(invalid="ignore", over="ignore"):
        whole = seconds.astype(np.uint16)
        single = value.astype(np.float32)
    if _same_bits(_widened(whole, value.dtype), value):
        return whole
    return single if _same_bits(single.astype(value.dtype), value) else value


def _widened(stored: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f" and stored.dtype == np.uint16:
        return np.where(stored == _NO_WAY, np.inf, stored).astype(dtype)
    return stored.astype(dtype)


def _same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    # Not ==, which takes -0.0 for 0.0 and a nan for different from itself.
    return one.tobytes() == np.ascontiguousarray(other).tobytes()


def _read_array(plain: Plain, path: str) -> NDArray[Any]:
    if type(plain) is not dict or plain.keys() != {"dtype", "stored", "shape", "data"}:
        raise _complain(path, "an array (dtype, stored, shape, data)", plain)
    dtype, stored = (_dtype(plain[name], path) for name in ("dtype", "stored"))
    shape = [_read_int(one, f"{path}.shape") for one in _list(plain["shape"], f"{path}.shape")]
    data = plain["data"]
    if type(data) is str:
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise CodecError(f"{path}.data: base64 expected") from None
    if not isinstance(data, bytes) or min(shape, default=0) < 0:
        raise _complain(path, "an array's bytes", data)
    if len(data) != math.prod(shape) * stored.itemsize:
        raise CodecError(f"{path}: {len(data)} bytes do not fill an array of shape {shape}")
    return _widened(np.frombuffer(data, dtype=stored).reshape(shape), dtype)


def _dtype(plain: Plain, path: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(plain if type(plain) is str else "")
    except TypeError:
        raise _complain(path, "the name of a number's type", plain) from None
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise _complain(path, "the name of a number's type", plain)
    return dtype
