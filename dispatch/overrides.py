"""Parameters with some values changed by name: ``lateness.late_weight=3``.

Used by replay, by the what-if and by the parameter sets that are compared in production.  The
groups' own checks decide what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass, replace
from difflib import get_close_matches
from enum import Enum
from operator import attrgetter
from types import NoneType
from typing import Any, get_args, get_type_hints

from dispatch.parameters import Parameters

# What one parameter may be set to: a number, a switch, a name.
Value = float | int | bool | str | None


def parse_overrides(texts: Iterable[str]) -> dict[str, Value]:
    """``["group.name=value", …]`` by name.  Raises ValueError for another form."""
    parsed: dict[str, Value] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (sign and name.strip() and value.strip()):
            raise ValueError(f"{text!r} is not of the form group.parameter=value")
        parsed[name.strip()] = value.strip()
    return parsed


def with_overrides(base: Parameters, overrides: Mapping[str, Value]) -> Parameters:
    """``base`` with the named values; a text is read as the parameter's type.

    Raises ValueError for an unknown name, a value of another type, or one that is not allowed.
    """
    changes: dict[str, Any] = {}
    known = parameter_types()
    for name, value in overrides.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"there is no parameter {name!r}{hint}")
        group, _, parameter = name.partition(".")
        changed = _read(name, known[name], value)
        if parameter:
            changed = replace(changes.get(group, getattr(base, group)), **{parameter: changed})
        changes[group] = changed
    return replace(base, **changes)


def parameter_types() -> dict[str, Any]:
    """Every parameter that can be set by name, with its type: ``{"lateness.margin_s": float}``."""
    result: dict[str, Any] = {}
    for group, kind in get_type_hints(Parameters).items():
        if is_dataclass(kind):
            hints = {f"{group}.{name}": hint for name, hint in get_type_hints(kind).items()}
        else:
            hints = {group: kind}
        result |= {name: hint for name, hint in hints.items() if _simple(hint)}
    return result


def differences(base: Parameters, other: Parameters) -> dict[str, Value]:
    """The overrides that make ``other`` of ``base``, as far as they can be set by name."""
    changed: dict[str, Value] = {}
    for name in parameter_types():
        before, after = (attrgetter(name)(one) for one in (base, other))
        if before != after:
            changed[name] = after.value if isinstance(after, Enum) else after
    return changed


def _simple(hint: Any) -> bool:
    kinds = [one for one in get_args(hint) if one is not NoneType] or [hint]
    return (
        len(kinds) == 1
        and isinstance(kinds[0], type)
        and issubclass(kinds[0], str | bool | int | float)
    )


def _read(name: str, hint: Any, value: Value) -> Any:
    kind = next((one for one in get_args(hint) if one is not NoneType), hint)
    if value is None or (value == "none" and NoneType in get_args(hint)):
        if NoneType in get_args(hint):
            return None
        raise ValueError(f"{name}: a value is needed")
    if issubclass(kind, Enum):
        known = [str(one.value) for one in kind]
        if value not in known:
            raise ValueError(f"{name}: {value!r} is not one of {', '.join(known)}")
        return kind(value)
    if kind is bool:
        switches = {"true": True, "false": False, True: True, False: False}
        if not isinstance(value, bool | str) or value not in switches:
            raise ValueError(f"{name}: true or false expected, not {value!r}")
        return switches[value]
    try:
        number = kind(value)
    except ValueError:
        raise ValueError(f"{name}: {value!r} is not a number") from None
    if (
        isinstance(value, bool)
        or not math.isfinite(number)
        or (kind is int and number != float(value))
    ):
        raise ValueError(f"{name}: {value!r} is not a number of the kind that it takes")
    return number
