"""Drawing: `Picture`s as one PNG. Needs matplotlib, of the extra `loadtest`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_WIDTH, _HEIGHT = 8.0, 4.0
"""Inches, of each."""
_OURS, _THEIRS = "tab:blue", "tab:gray"
_WIDE = 50
"""Times the smallest bar: from there on a linear axis shows the large ones only."""


class CannotDraw(Exception):
    """Says what is missing."""


def draw(pictures: Sequence[dict[str, Any]], to: Path) -> None:
    """One below the other; each has the fields of `report.Picture`.

    Raises CannotDraw where matplotlib is missing.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise CannotDraw("they need matplotlib; pip install 'trickles-web[loadtest]'") from None
    size = (_WIDTH, _HEIGHT * len(pictures))
    figure, axes = pyplot.subplots(len(pictures), 1, figsize=size, squeeze=False)
    for picture, (axis,) in zip(pictures, axes, strict=True):
        axis.set_title(picture["title"])
        if picture["kind"] == "lines":
            _lines(axis, picture)
        else:
            _bars(axis, picture)
        if len(picture["series"]) > 1:
            axis.legend()
    figure.tight_layout()
    figure.savefig(to, dpi=100, metadata={"Software": None})  # no version: a smaller diff
    pyplot.close(figure)


def _lines(axis: Any, picture: dict[str, Any]) -> None:
    for name, values in picture["series"].items():
        axis.plot(picture["places"], values, marker="o", label=name)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(picture["place"])
    axis.set_ylabel(picture["value"])
    axis.grid(alpha=0.3)


def _bars(axis: Any, picture: dict[str, Any]) -> None:
    """Horizontal, so that names find room; the first on top."""
    places, series = picture["places"], picture["series"]
    height = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        at = [index + number * height for index in range(len(places))]
        # One series: colours tell ours from others'. More: they tell the series.
        ours = [_OURS if str(place).startswith("trickles") else _THEIRS for place in places]
        bars = axis.barh(at, values, height, label=name, color=ours if len(series) == 1 else None)
        axis.bar_label(bars, fmt=_number, padding=3)
    if max(map(max, series.values())) > _WIDE * min(map(min, series.values())):
        axis.set_xscale("log")
    axis.set_yticks([index + 0.4 - height / 2 for index in range(len(places))], places)
    axis.invert_yaxis()
    axis.set_xlabel(picture["value"])
    axis.set_ylabel(picture["place"])
    axis.margins(x=0.15)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
