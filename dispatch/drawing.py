"""The little of SVG that the pictures need: shapes by class, and labels that do not collide."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape, quoteattr

Point = tuple[float, float]

FONT: Final = (
    "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial,"
    " 'DejaVu Sans', sans-serif"
)
# Width of a character against its height, a little more than the mean of such a face.
CHARACTER: Final = 0.6

# By class: the property that the colour is for, the colour on white, the colour on black.
_COLOURS: Final = {
    "bg": ("fill", "#ffffff", "#0f1216"),
    "panel": ("fill", "#f5f7f9", "#181c22"),
    "track": ("fill", "#e4e8ed", "#2a313a"),
    "grid": ("stroke", "#e3e7ec", "#262c35"),
    "rule": ("stroke", "#c3cad3", "#3d4652"),
    "ink": ("fill", "#16191d", "#edf0f4"),
    "ink-line": ("stroke", "#16191d", "#edf0f4"),
    "muted": ("fill", "#56606c", "#a8b2bf"),
    "faint": ("fill", "#b3bcc7", "#4b5563"),
    "halo": ("stroke", "#f5f7f9", "#181c22"),
    "paper": ("fill", "#ffffff", "#0f1216"),
    "chosen": ("fill", "#0b5cad", "#6cb0ff"),
    "chosen-line": ("stroke", "#0b5cad", "#6cb0ff"),
    "second": ("fill", "#955400", "#f2b55c"),
    "second-line": ("stroke", "#955400", "#f2b55c"),
    "promise": ("fill", "#b3261e", "#ff8a80"),
    "promise-line": ("stroke", "#b3261e", "#ff8a80"),
    # Okabe and Ito's colours, which colour-blind people can tell apart.
    "hue-0": ("fill", "#0072b2", "#4aa8e0"),
    "hue-1": ("fill", "#d55e00", "#ff8a3d"),
    "hue-2": ("fill", "#009e73", "#2ec79a"),
    "hue-3": ("fill", "#e69f00", "#ffc04d"),
    "hue-4": ("fill", "#8a919c", "#9aa3ae"),
    "hue-5": ("fill", "#cc79a7", "#e39cc4"),
    "hue-6": ("fill", "#56b4e9", "#86cdf5"),
}
HUES: Final = 7


def style() -> str:
    """The style sheet: every colour twice, for a light and for a dark page."""

    def rules(side: int) -> str:
        return "".join(f".{name}{{{c[0]}:{c[side]}}}" for name, c in _COLOURS.items())

    return (
        f"text{{font-family:{FONT};font-variant-numeric:tabular-nums}}"
        ".line{fill:none;stroke-linecap:round;stroke-linejoin:round}.b{font-weight:600}"
        f"{rules(1)}@media (prefers-color-scheme:dark){{{rules(2)}}}"
    )


def clock(seconds: float) -> str:
    """``12:04:35``, in UTC."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%H:%M:%S")


def short(identifier: str) -> str:
    """The end of an id, which is what tells it from others."""
    return identifier if len(identifier) <= 10 else f"…{identifier[-5:]}"


def text_width(text: str, size: float) -> float:
    return len(text) * size * CHARACTER


@dataclass
class Drawing:
    """Collects elements; coordinates are pixels from the upper left corner."""

    width: float
    height: float
    title: str
    description: str
    parts: list[str] = field(default_factory=list)

    def add(
        self, tag: str, classes: str = "", content: str = "", /, **attributes: float | str
    ) -> None:
        """One element. Underscores in names of attributes are hyphens."""
        written = "".join(
            f" {name.replace('_', '-')}={quoteattr(_number(value))}"
            for name, value in attributes.items()
        )
        kind = f' class="{classes}"' if classes else ""
        body = f">{escape(content)}</{tag}>" if content else "/>"
        self.parts.append(f"<{tag}{kind}{written}{body}")

    def text(
        self,
        at: Point,
        content: str,
        classes: str = "ink",
        size: float = 13,
        anchor: str = "start",
        **attributes: float | str,
    ) -> None:
        self.add(
            "text", classes, content, x=at[0], y=at[1], font_size=size, text_anchor=anchor,
            **attributes,
        )  # fmt: skip

    def halo_text(
        self, at: Point, content: str, classes: str, size: float, anchor: str = "start"
    ) -> None:
        """Text that stays readable on lines, with a rim of the panel's colour."""
        self.text(
            at, content, f"{classes} halo", size, anchor, stroke_width=4, paint_order="stroke",
            stroke_linejoin="round",
        )  # fmt: skip

    def rect(
        self,
        at: Point,
        width: float,
        height: float,
        classes: str,
        radius: float = 0,
        **attributes: float | str,
    ) -> None:
        self.add(
            "rect", classes, x=at[0], y=at[1], width=max(0.0, width), height=height, rx=radius,
            **attributes,
        )  # fmt: skip

    def circle(self, at: Point, radius: float, classes: str, **attributes: float | str) -> None:
        self.add("circle", classes, cx=at[0], cy=at[1], r=radius, **attributes)

    def polyline(self, points: Iterable[Point], classes: str, **attributes: float | str) -> None:
        path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self.add("polyline", f"line {classes}", points=path, **attributes)

    def arrow(self, start: Point, end: Point, classes: str, size: float = 6) -> None:
        """A small head in the middle of a leg; none on a leg too short for it."""
        length = math.dist(start, end)
        if length < 5 * size:
            return
        dx, dy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
        x, y = start[0] + dx * length * 0.55, start[1] + dy * length * 0.55
        corners = [
            (x + dx * size, y + dy * size),
            (x - dx * size - dy * size * 0.8, y - dy * size + dx * size * 0.8),
            (x - dx * size + dy * size * 0.8, y - dy * size - dx * size * 0.8),
        ]
        path = " ".join(f"{_number(a)},{_number(b)}" for a, b in corners)
        self.add("polygon", classes, points=path)

    def render(self) -> str:
        """The picture as a text of its own, with a title and a description for who cannot see."""
        size = f"{_number(self.width)} {_number(self.height)}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img"'
            ' aria-labelledby="title description">\n'
            f'<title id="title">{escape(self.title)}</title>\n'
            f'<desc id="description">{escape(self.description)}</desc>\n'
            f"<style>{style()}</style>\n" + "\n".join(self.parts) + "\n</svg>\n"
        )


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Box:
    """left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)

    def outside(self, frame: Box) -> float:
        """How far it stands out of a frame."""
        return sum(
            max(0.0, beyond)
            for beyond in (
                frame.left - self.left, self.right - frame.right,
                frame.top - self.top, self.bottom - frame.bottom,
            )
        )  # fmt: skip


@dataclass
class Labels:
    """Finds a place for each label next to its point, away from what is there already."""

    frame: Box
    taken: list[Box] = field(default_factory=list)
    lines: list[tuple[Point, Point]] = field(default_factory=list)

    def mark(self, at: Point, radius: float) -> None:
        """Something stands here."""
        self.taken.append(Box(at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius))

    def place(self, at: Point, text: str, size: float, gap: float) -> tuple[Point, str]:
        """Where the text's baseline starts (or ends), and its anchor."""
        wide, high = text_width(text, size), size
        best: tuple[float, Point, str, Box] | None = None
        for rank, (dx, dy) in enumerate(_AROUND):
            left = at[0] + dx * gap - (wide if dx < 0 else wide / 2 if dx == 0 else 0)
            top = at[1] + dy * (gap + high / 2) - high / 2
            box = Box(left - 2, top - 1, left + wide + 2, top + high + 2)
            crossed = sum(_crosses(line, box) for line in self.lines)
            penalty = (
                sum(box.overlap(other) for other in self.taken)
                + 40 * box.outside(self.frame) + 60 * crossed + rank
            )  # fmt: skip
            if best is None or penalty < best[0]:
                # Anchored on the side of its point, whatever the width of the font at hand.
                anchor = "end" if dx < 0 else "middle" if dx == 0 else "start"
                x = left + wide if dx < 0 else left + wide / 2 if dx == 0 else left
                best = penalty, (x, top + high * 0.82), anchor, box
        assert best is not None
        self.taken.append(best[3])
        return best[1], best[2]


_AROUND: Final[Sequence[tuple[float, float]]] = (
    (1, 0), (-1, 0), (1, -0.9), (1, 0.9), (-1, -0.9), (-1, 0.9), (0, -1.25), (0, 1.25),
    (1, 2), (1, -2), (-1, 2), (-1, -2),
)  # fmt: skip


def _crosses(line: tuple[Point, Point], box: Box) -> bool:
    """Whether a leg runs through a box, looked at in steps of a few pixels."""
    (ax, ay), (bx, by) = line
    steps = max(1, int(math.dist(*line) / 5))
    return any(
        box.left <= ax + (bx - ax) * i / steps <= box.right
        and box.top <= ay + (by - ay) * i / steps <= box.bottom
        for i in range(steps + 1)
    )
