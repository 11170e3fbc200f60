"""
A plot as a PNG, for chats that show pictures and nothing else. Drawn with Pillow: no browser is needed.

Twice the size and scaled down, which smooths the lines. Chinese needs a font with Chinese glyphs, see `chinese_font`:
without one there would be boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from slo.report.figure import COLOURS
from slo.report.plots import Plot, PlotTrace

WIDTH, HEIGHT, SCALE = 1000, 560, 2
LEFT, RIGHT, TOP, BOTTOM = 84, 30, 118, 70
INK, SOFT, GRID, PAPER = "#141a24", "#535e6e", "#e3e7ed", "#ffffff"

# Where distributions keep fonts with Chinese glyphs, and which face of the collection is the simplified one.
FONTS = {
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc": 2,
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc": 2,
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc": 0,
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc": 0,
    "/System/Library/Fonts/PingFang.ttc": 0,
}

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def chinese_font() -> Path | None:
    """A font on this machine that has Chinese glyphs."""
    return next((path for path in map(Path, FONTS) if path.is_file()), None)


def png(plot: Plot, *, title: str, subtitle: str = "") -> bytes:
    """The picture, 1000 × 560."""
    return Canvas(plot, title, subtitle).drawn()


class Canvas:
    """One picture being drawn; coordinates are those of the final size."""

    def __init__(self, plot: Plot, title: str, subtitle: str) -> None:
        self.plot, self.title, self.subtitle = plot, title, subtitle
        self.image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def drawn(self) -> bytes:
        """All of it, as PNG."""
        self._text((LEFT - 56, 18), self.title, 25, INK)
        self._text((LEFT - 56, 54), self.subtitle, self._fitting(self.subtitle, 16, WIDTH - 2 * (LEFT - 56)), SOFT)
        self._grid()
        for index, trace in enumerate(self.plot.traces):
            self._trace(trace, index)
        self._limit()
        self._legend()
        small = self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        small.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    @cached_property
    def names(self) -> list[str]:
        """Names along the x axis, where it has names; else empty."""
        return [value for value in self.plot.traces[0].x if isinstance(value, str)]

    @cached_property
    def x_span(self) -> tuple[float, float]:
        if self.names:
            return -0.5, len(self.names) - 0.5
        if self.plot.x_range:
            return self.plot.x_range
        values = [float(value) for trace in self.plot.traces for value in trace.x]
        return min(0.0, *values), max(values) * 1.04

    @cached_property
    def top(self) -> float:
        """Upper end of the y axis; at most four times the limit, lest one outlier flatten the rest."""
        if self.plot.stacked:
            heights = [sum(column) for column in zip(*(_numbers(trace.y) for trace in self.plot.traces), strict=True)]
        else:
            heights = [y for trace in self.plot.traces for y in [*_numbers(trace.y), *_numbers(trace.high)]]
        highest = max(heights, default=1.0) * 1.1
        if self.plot.limit is None or self.plot.limit_on == "x":
            return highest or 1.0
        return min(max(highest, self.plot.limit * 1.25), self.plot.limit * 4)

    def x(self, value: float) -> float:
        low, high = self.x_span
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = min(max(value, 0.0), self.top) / self.top
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    def _grid(self) -> None:
        for value in _ticks(0.0, self.top):
            self._line([(LEFT, self.y(value)), (WIDTH - RIGHT, self.y(value))], GRID, 1)
            self._text((LEFT - 10, self.y(value)), f"{value:g}", 14, SOFT, "rm")
        if self.names:
            for index, name in enumerate(self.names):
                self._text((self.x(index), HEIGHT - BOTTOM + 8), name, 15, INK, "ma")
        else:
            for value in _ticks(*self.x_span, wanted=8):
                self._text((self.x(value), HEIGHT - BOTTOM + 8), f"{value:g}", 14, SOFT, "ma")
        self._text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 34), self.plot.x_title, 15, SOFT, "ma")
        self._text((LEFT - 56, TOP - 30), self.plot.y_title, 15, SOFT)

    def _trace(self, trace: PlotTrace, index: int) -> None:
        colour = COLOURS[trace.tone]
        if trace.kind == "bars":
            self._bars(trace, index, colour)
            return
        points = [None if y is None else (self.x(float(x)), self.y(y)) for x, y in zip(trace.x, trace.y, strict=True)]
        if trace.kind == "points":
            for point in filter(None, points):
                self._dot(point, colour, cross=trace.tone == "bad")
            return
        for one, other in pairwise(points):
            if one and other:
                self._line([one, other], colour, 3 if trace.kind == "line" else 1.5)

    def _bars(self, trace: PlotTrace, index: int, colour: str) -> None:
        total = 1 if self.plot.stacked else len(self.plot.traces)
        places = range(len(trace.x)) if self.names else [float(x) for x in trace.x]
        step = abs(self.x(places[1]) - self.x(places[0])) if len(places) > 1 else (WIDTH - LEFT - RIGHT) / 2
        width = step * (0.94 if self.plot.stacked else 0.7) / total
        for number, (place, y) in enumerate(zip(places, trace.y, strict=True)):
            if not y:
                continue
            base = sum(_numbers([t.y[number] for t in self.plot.traces[:index]])) if self.plot.stacked else 0.0
            left = self.x(place) - width * total / 2 + (0 if self.plot.stacked else width * index)
            self._box(left, self.y(base + y), left + width * 0.94, self.y(base), colour)
            low, high = (bounds[number] if bounds else None for bounds in (trace.low, trace.high))
            if low is not None and high is not None:
                middle = left + width * 0.47
                self._line([(middle, self.y(low)), (middle, self.y(high))], INK, 2)
            if self.names:
                self._text((left + width * 0.47, self.y(max(y, high or 0)) - 4), f"{y:.0f}", 15, INK, "ms")

    def _limit(self) -> None:
        limit, red = self.plot.limit, COLOURS["bad"]
        if limit is None:
            return
        if self.plot.limit_on == "y":
            self._dashed((LEFT, self.y(limit)), (WIDTH - RIGHT, self.y(limit)), red)
            self._text((WIDTH - RIGHT - 4, self.y(limit) - 4), self.plot.limit_label, 15, red, "rs")
        else:
            self._dashed((self.x(limit), TOP), (self.x(limit), HEIGHT - BOTTOM), red)
            self._text((self.x(limit) + 6, TOP), self.plot.limit_label, 15, red)

    def _legend(self) -> None:
        right = float(WIDTH - RIGHT)
        for trace in reversed(self.plot.traces if len(self.plot.traces) > 1 else ()):
            width = self.draw.textlength(trace.name, font=self._font(15)) / SCALE
            self._text((right - width, TOP - 30), trace.name, 15, INK)
            right -= width + 22
            self._box(right, TOP - 25, right + 15, TOP - 13, COLOURS[trace.tone])
            right -= 18

    def _font(self, size: int) -> Font:
        found = chinese_font()
        if found:
            return ImageFont.truetype(str(found), size * SCALE, index=FONTS[str(found)])
        return ImageFont.load_default(size * SCALE)

    def _fitting(self, text: str, size: int, width: float) -> int:
        """The largest font size up to `size` at which `text` is no wider than `width`; at least 9."""
        sizes = range(size, 9, -1)
        return next((each for each in sizes if self.draw.textlength(text, self._font(each)) <= width * SCALE), 9)

    def _text(self, at: tuple[float, float], text: str, size: int, colour: str, anchor: str = "la") -> None:
        self.draw.text((at[0] * SCALE, at[1] * SCALE), text, fill=colour, font=self._font(size), anchor=anchor)

    def _line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self.draw.line(scaled, fill=colour, width=max(1, round(width * SCALE)))

    def _dashed(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        length = math.dist(start, end)
        for begin in range(0, int(length), 14):
            a, b = begin / length, min(begin + 9, length) / length
            ends = [tuple(s + (e - s) * part for s, e in zip(start, end, strict=True)) for part in (a, b)]
            self._line([(point[0], point[1]) for point in ends], colour, 2)

    def _box(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        self.draw.rectangle((left * SCALE, top * SCALE, right * SCALE, bottom * SCALE), fill=colour)

    def _dot(self, at: tuple[float, float], colour: str, *, cross: bool) -> None:
        (x, y), r = at, 7.0
        if cross:
            self._line([(x - r, y - r), (x + r, y + r)], colour, 4)
            self._line([(x - r, y + r), (x + r, y - r)], colour, 4)
        else:
            box = ((x - r) * SCALE, (y - r) * SCALE, (x + r) * SCALE, (y + r) * SCALE)
            self.draw.ellipse(box, fill=colour)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [0.0 if value is None else value for value in values]


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values from `low` to `high`, about `wanted` of them."""
    rough = (high - low) / wanted
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 9) for i in range(int((high - first * step) / step + 1e-9) + 1)]
