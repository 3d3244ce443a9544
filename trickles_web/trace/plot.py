"""A trace as a time-sequence plot, after tcptrace's: which response bytes came when, above the
window and the round trip. Needs matplotlib, of the extra `trace`.

In an SVG each class of marks is a group with its name as `id`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from trickles_web.errors import UsageError
from trickles_web.trace.marks import Mark, Marks
from trickles_web.trace.words import replica

SUFFIXES: Final = (".svg", ".png", ".pdf")
_INCHES: Final = (11.0, 8.0)
_DPI: Final = 110
_HEIGHTS: Final = (4, 1.4, 1)
_MOST_LABELS: Final = 24
_REPLICAS: Final = ("tab:blue", "tab:olive", "tab:pink", "tab:gray", "tab:purple", "tab:cyan")
"""Colours of response bytes, by who sent them; taken in turn."""
_STEPS: Final = {
    "wanted": ("tab:orange", "asked for, up to"),
    "received": ("tab:green", "all received, as the client says"),
}
POINTS: Final = {
    "lost": ("x", "red", "numbers lost"),
    "report": ("v", "darkred", "loss reported"),
    "late": ("^", "purple", "come after all"),
    "silence": ("D", "black", "opened after silence"),
    "request": (".", "tab:green", "REQUEST"),
    "hello": ("P", "tab:green", "HELLO"),
    "upload": ("1", "tab:brown", "UPLOAD"),
    "ack": ("2", "tab:brown", "ACK"),
    "probe": ("s", "tab:cyan", "probe of the size"),
    "wait": ("_", "gray", "WAIT"),
    "need": ("*", "magenta", "NEED"),
    "refused": ("X", "magenta", "REFUSED"),
    "preferred": ("h", "tab:orange", "PREFERRED"),
    "cancel": ("8", "gray", "CANCEL"),
}
_COUNTS: Final = {"window": ("tab:blue", "window"), "flight": ("tab:gray", "in flight")}


def check(path: str) -> None:
    """Raises UsageError if no plot can be drawn there."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot plot to {path}: its name must end in {', '.join(SUFFIXES)}")
    _pyplot()


def _pyplot() -> Any:
    """Raises UsageError where matplotlib is missing."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise UsageError("plots need matplotlib: pip install 'trickles-web[trace]'") from None
    return pyplot


def draw(marks: Marks, title: str, began: float, path: str) -> None:
    """began: seconds since 1970 at which the axis of time begins. Raises UsageError."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(
        3, 1, sharex=True, figsize=_INCHES, height_ratios=_HEIGHTS, layout="constrained"
    )
    bytes_axis, window_axis, trip_axis = axes
    try:
        _sequence(bytes_axis, marks, began)
        _windows(window_axis, marks, began)
        _trips(trip_axis, marks, began)
        bytes_axis.set_title(title, fontsize="medium")
        figure.savefig(path, dpi=_DPI)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    finally:
        pyplot.close(figure)


def _of(marks: Marks, name: str) -> list[Mark]:
    return list(marks.classes.get(name, ()))


def _sequence(axis: Any, marks: Marks, began: float) -> None:
    for name, (colour, label) in _STEPS.items():
        if found := _of(marks, name):
            at = [mark.at - began for mark in found]
            [line] = axis.step(
                at, [mark.low for mark in found], where="post", color=colour, label=label, lw=0.8
            )
            line.set_gid(name)
    _segments(axis, _of(marks, "data"), began)
    if found := _of(marks, "again"):
        at, low, high = _spans(found, began)
        again = axis.vlines(at, low, high, color="tab:red", label="bytes that were here already")
        again.set_gid("again")
    for name, (shape, colour, label) in POINTS.items():
        if found := _of(marks, name):
            at = [mark.at - began for mark in found]
            low, size = [mark.low for mark in found], 4 if name == "request" else 26
            points = axis.scatter(at, low, s=size, marker=shape, color=colour, label=label, lw=0.9)
            points.set_gid(name)
            points.set_zorder(2 if name == "request" else 3)
    _generations(axis, _of(marks, "generation"), began)
    axis.set_ylabel("offset in the response stream")
    axis.yaxis.set_major_formatter(_formatter())
    axis.grid(alpha=0.3)
    axis.legend(fontsize="x-small", loc="upper left", ncols=2)


def _spans(found: list[Mark], began: float) -> tuple[list[float], list[float], list[float]]:
    at = [mark.at - began for mark in found]
    return at, [mark.low for mark in found], [mark.high for mark in found]


def _segments(axis: Any, found: list[Mark], began: float) -> None:
    """Response bytes, in the colour of their replica."""
    if not found:
        return
    names = list(dict.fromkeys(mark.replica for mark in found))
    colours = {name: _REPLICAS[k % len(_REPLICAS)] for k, name in enumerate(names)}
    lines = axis.vlines(
        *_spans(found, began), colors=[colours[mark.replica] for mark in found], lw=2, zorder=2.5
    )
    lines.set_capstyle("projecting")  # a packet is less than a dot high, mostly
    lines.set_gid("data")
    for name in names[: len(_REPLICAS)]:
        axis.plot([], [], color=colours[name], label=f"response bytes of replica {replica(name)}")


def _generations(axis: Any, found: list[Mark], began: float) -> None:
    for k, mark in enumerate(found[:: max(1, -(-len(found) // _MOST_LABELS))]):
        line = axis.axvline(mark.at - began, color="gray", lw=0.6, ls=":")
        if not k:
            line.set_gid("generation")
            line.set_label("a generation begins")


def _formatter() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(unit="B")


def _windows(axis: Any, marks: Marks, began: float) -> None:
    for name, (colour, label) in _COUNTS.items():
        found = _of(marks, name)
        at, low = [mark.at - began for mark in found], [mark.low for mark in found]
        [line] = axis.step(at, low, where="post", color=colour, label=label, lw=0.9)
        line.set_gid(name)
    axis.set_ylabel("packets")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="x-small", loc="upper left")


def _trips(axis: Any, marks: Marks, began: float) -> None:
    found = _of(marks, "rtt")
    at, low = [mark.at - began for mark in found], [mark.low * 1000 for mark in found]
    axis.scatter(at, low, s=6, color="tab:blue").set_gid("rtt")
    axis.set_ylabel("answered in ms")
    axis.set_xlabel("seconds")
    axis.set_ylim(0, 1.15 * max(low, default=1.0))
    axis.grid(alpha=0.3)
