"""Results as figures. The only file that imports matplotlib, and never pyplot: no global state, no window, any backend.

How this works: `plot` reads the `Picture` that a result describes and hands it to one of four painters. A number that was
not released is a gap: curves break, bars and cells are hatched, points say so. `svg` writes a figure as a fragment for a page;
its ink follows the colour of the text around it.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from ..errors import InputError
from ..query.analysis import Failed, Result
from ..query.views import Curve, Picture, count_text
from .words import ABSENT, RESEARCH, interval_text, number_text, picture_of, plain, values_text

# Colours that are told apart with any colour vision. Okabe & Ito (2008), Color Universal Design; black is left to the axes.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
INK, MUTED, HATCH = "#1a1b1c", "#767779", "////"
NOT_RELEASED = "not released"
DENSITY = "density"     # the y of step curves that are areas: histograms of several groups
MOST_NUMBERS = 24       # bars with their number written above
MOST_LABELS = 16        # labels along the x axis before they are thinned out
MOST_TIMES = 9          # columns of the numbers at risk before they are thinned out
WRAP = 18               # characters per line of a label
STUB = 0.04             # height of the mark for a bar that was not released, of the axis
FIGURE = {"font.size": 9.5, "axes.titlesize": 11, "axes.edgecolor": INK, "text.color": INK, "axes.labelcolor": INK,
          "xtick.color": INK, "ytick.color": INK, "axes.linewidth": 0.8, "hatch.linewidth": 0.6, "axes.unicode_minus": True}


def plot(result: Result, *, title: str | None = None, size: tuple[float, float] | None = None, band: bool = True,
         log: bool | None = None) -> Any:
    """The result as a matplotlib Figure, to be saved with `figure.savefig`.

    title : instead of the picture's own. size : width and height in inches. band : whether curves carry their interval.
    log : whether points lie on a logarithmic axis; by default when the axis is a ratio.

    Raises InputError if the result has no picture, and the error of a `Failed`.
    """
    if isinstance(result, Failed):
        raise result.error()
    picture = picture_of(result)
    if picture is None:
        raise InputError("this result has no picture", hint="use .frame() for its numbers")
    under = f"n = {count_text(result.n)}" + (f", {result.registries} registries" if result.registries else "")
    return draw(picture, under=under, title=title, size=size, band=band, log=log)


def draw(picture: Picture, *, under: str = "", title: str | None = None, size: tuple[float, float] | None = None,
         band: bool = True, log: bool | None = None) -> Any:
    """A picture as a Figure; `under` is printed below it, before "research use only"."""
    matplotlib = _matplotlib()
    painters: dict[str, Callable[..., None]] = {"steps": _steps, "bounds": _steps, "bars": _bars, "points": _points, "heat": _heat}
    with matplotlib.rc_context(FIGURE):
        figure = matplotlib.figure.Figure(figsize=size or _size(picture), dpi=120, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.09, h_pad=0.09)
        painters[picture.kind](figure, picture, band=band, log=log)
        axes = figure.axes[0]
        axes.set_title(_text(picture.title if title is None else title), loc="left", fontweight="bold", pad=10)
        if not anything(picture):
            axes.text(0.5, 0.5, "nothing in this picture may be released", transform=axes.transAxes, ha="center", va="center",
                      color=MUTED)
        figure.supxlabel(_text(f"{under}; {RESEARCH}" if under else RESEARCH), x=0.01, ha="left", fontsize=7.5, color=MUTED)
    return figure


def svg(figure: Any, *, alt: str, name: str) -> str:
    """A figure as an `<svg>` element for a page: real text, no metadata, ink in the colour of the page.

    alt : what the picture shows, in words. name : prefix of the ids inside, unique on the page.
    """
    matplotlib, file = _matplotlib(), io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor").replace('xlink:href="#', 'href="#')
    head = f'<svg role="img" aria-label="{escape(plain(alt))}" class="picture" '
    return re.sub(r'^<svg\s|\s(width|height)="[\d.]+pt"', lambda m: head if m.group(0).startswith("<svg") else "", text, count=3).strip()


def alt(picture: Picture) -> str:
    """What a picture shows, for those who do not see it."""
    kind = {"steps": "Step curves", "bounds": "Curves known at some times", "bars": "Bars", "points": "Estimates with intervals",
            "heat": "Matrix of numbers"}[picture.kind]
    shown = [curve.label for curve in picture.curves] or list(picture.labels if picture.kind == "points" else
                                                              [name for name, _ in picture.series])
    axes = ", ".join(part for part in (f"{picture.y} (vertical)" if picture.y else "", f"{picture.x} (horizontal)" if picture.x else "")
                     if part)
    return f"{picture.title}. {kind}{': ' + ', '.join(filter(None, shown)) if any(shown) else ''}{'; axes: ' + axes if axes else ''}. " \
           "The numbers are in the table beside it."


# -- painters --------------------------------------------------------------------------------------------------------------


def _steps(figure: Any, picture: Picture, *, band: bool, **_: Any) -> None:
    rows = len(picture.below)
    heights = [1.0] + ([0.062 * (rows + 1.4)] if rows else [])
    axes, *rest = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False, sharex=True)[:, 0]
    density = picture.y == DENSITY
    for k, curve in enumerate(picture.curves):
        colour, values = _colour(k), _gaps(curve.y)
        # a step at the last place has no width: a dot shows where the curve ends
        ends = [] if density else [j for j, value in enumerate(values) if not math.isnan(value)][-1:]
        if picture.kind == "bounds":
            _bounds(axes, curve, colour, DASHES[k % len(DASHES)], band)
            continue
        axes.step(curve.x, values, where="post", color=colour, linestyle=DASHES[k % len(DASHES)], linewidth=1.7, marker="o",
                  markersize=3.5, markevery=ends, label=_text(curve.label))
        if density:
            axes.fill_between(curve.x, values, step="post", color=colour, alpha=0.2, linewidth=0)
        if band and curve.low and curve.high:
            axes.fill_between(curve.x, _gaps(curve.low), _gaps(curve.high), step="post", color=colour, alpha=0.15, linewidth=0)
    seen = [value for curve in picture.curves for value in (*curve.y, *curve.high) if value is not None]
    low, high = picture.y_range or ((0.0, 1.0) if max(seen, default=0) <= 1 and not density else (0.0, max(seen) * 1.05))
    axes.set_ylim(low, high + 0.02 * (high - low))
    places = [x for curve in picture.curves for x in curve.x] or [0.0, 1.0]
    first, last = min(places if density else [0.0, *places]), max([*places, *picture.below_at])
    axes.set_xlim(first, last + 0.02 * (last - first))
    for mark in picture.marks:
        axes.axvline(mark, color=MUTED, linewidth=0.8, linestyle=":")
    _frame(axes, picture, grid="y")
    if len(picture.curves) > 1:
        _legend(axes, None)
    if rows:
        _below(rest[0], axes, picture)


def _bounds(axes: Any, curve: Curve, colour: Any, dashes: Any, band: bool) -> None:
    """A curve that is known at its places only: points with intervals, and between two of them the rectangle in which it lies."""
    values = _gaps(curve.y)
    axes.plot(curve.x, values, color=colour, linestyle="none", marker="o", markersize=4.5, label=_text(curve.label))
    for (a, b), (high, low) in zip(itertools.pairwise(curve.x), itertools.pairwise(values)):
        axes.fill_between([a, b], [low, low], [high, high], color=colour, alpha=0.14, linewidth=0)
        axes.plot([a, b], [high, high], color=colour, linestyle=dashes, linewidth=0.7, alpha=0.7)
        axes.plot([a, b], [low, low], color=colour, linestyle=dashes, linewidth=0.7, alpha=0.7)
    if band and curve.low and curve.high:
        axes.vlines(curve.x, _gaps(curve.low), _gaps(curve.high), color=colour, linewidth=1.6)


def _below(strip: Any, axes: Any, picture: Picture) -> None:
    """Numbers at risk under the time axis, each line in the colour of its curve."""
    every = math.ceil(len(picture.below_at) / MOST_TIMES)
    times = picture.below_at[::every]
    axes.set_xticks(times, [number_text(time) for time in times])
    axes.tick_params(labelbottom=True)
    strip.set_ylim(len(picture.below) - 0.4, -1.6)
    strip.set_yticks(range(len(picture.below)), [_text(label) for label, _ in picture.below])
    strip.tick_params(length=0, labelbottom=False, pad=16)       # the first number is centred under time 0
    strip.spines[:].set_visible(False)
    strip.annotate("Number at risk", (0, 1), xycoords="axes fraction", fontsize=8.5, color=MUTED, va="top", ha="left",
                   annotation_clip=False)
    names = [curve.label for curve in picture.curves]
    for row, (label, values) in enumerate(picture.below):
        colour = _colour(names.index(label) if label in names else row) if len(names) > 1 else INK
        strip.get_yticklabels()[row].set_color(colour)
        for time, value in zip(times, values[::every]):
            strip.text(time, row, "–" if value is None else count_text(value), ha="center", va="center", fontsize=8.5,
                       color=MUTED if value is None else INK)


def _bars(figure: Any, picture: Picture, **_: Any) -> None:
    axes = figure.subplots()
    labels, series = [_text(label) for label in picture.labels], picture.series
    touching = len(series) == 1 and bool(labels) and labels[0].startswith("[")      # bins of a number, not groups
    width = (0.96 if touching else 0.8) / max(len(series), 1)
    top = max((value for _, values in series for value in values if value is not None), default=1.0) or 1.0
    handles, gaps, patch = [], [], _matplotlib().patches.Patch
    for k, (name, values) in enumerate(series):
        places = [j + (k - (len(series) - 1) / 2) * width for j in range(len(values))]
        known = [(place, value) for place, value in zip(places, values) if value is not None]
        drawn = axes.bar([p for p, _ in known], [v for _, v in known], width * 0.94, color=_colour(k))
        handles += [patch(color=_colour(k), label=_text(name))] if len(series) > 1 else []
        gaps += [place for place, value in zip(places, values) if value is None]
        if len(labels) * len(series) <= MOST_NUMBERS:
            axes.bar_label(drawn, [_value(v) for _, v in known], padding=2, fontsize=8, color=INK)
    if gaps:
        axes.bar(gaps, top * STUB, width * 0.94, facecolor="none", edgecolor=MUTED, hatch=HATCH, linewidth=0.6)
        handles.append(patch(facecolor="none", edgecolor=MUTED, hatch=HATCH, label=NOT_RELEASED))
    axes.set_ylim(*(picture.y_range or (0, top * 1.12)))
    every = math.ceil(len(labels) / MOST_LABELS)
    tall = [textwrap.fill(label, WRAP) for label in labels[::every]]
    slanted = sum(max(map(len, label.split("\n")), default=0) for label in tall) > 70
    axes.set_xticks(range(0, len(labels), every), tall, rotation=35 if slanted else 0, ha="right" if slanted else "center",
                    rotation_mode="anchor" if slanted else "default")
    axes.tick_params(axis="x", length=0)
    axes.locator_params(axis="y", integer=all(isinstance(value, (int, type(None))) for _, values in series for value in values))
    axes.yaxis.set_major_formatter(lambda value, _: number_text(value))
    _frame(axes, picture, grid="y")
    if not anything(picture):
        axes.set_yticks([])
    if handles:
        _legend(axes, handles, outside=len(series) > 1)


def _points(figure: Any, picture: Picture, *, log: bool | None, **_: Any) -> None:
    """Estimates as a forest: series come in threes (estimate, low, high), or alone without an interval."""
    axes = figure.subplots()
    step = 3 if len(picture.series) % 3 == 0 else 1
    many = len(picture.series) // step
    rows, words = range(len(picture.labels)), [""] * len(picture.labels)
    axes.set_ylim(len(picture.labels) - 0.5, -0.5)
    for k in range(many):
        name, values = picture.series[k * step]
        low, high = (picture.series[k * step + j][1] if step == 3 else values for j in (1, 2))
        shift = (k - (many - 1) / 2) * 0.25
        for row, value, a, b in zip(rows, values, low, high):
            if value is None:
                words[row] += ("\n" if words[row] else "") + NOT_RELEASED
                continue
            if a is not None and b is not None:
                axes.plot([a, b], [row + shift] * 2, color=_colour(k), linewidth=1.7, solid_capstyle="butt")
            axes.plot([value], [row + shift], "s" if many == 1 else "osD^v"[k % 5], color=_colour(k), markersize=5.5,
                      label=_text(name) if row == next((r for r in rows if values[r] is not None), 0) else None)
            texts = values_text([value, a, b])
            words[row] += ("\n" if words[row] else "") + texts[0] + (f" ({interval_text(*texts[1:])})" if step == 3 else "")
    ratio = "ratio" in f"{picture.x} {picture.y} {picture.title}".lower()
    seen = [v for _, values in picture.series for v in values if v is not None]
    if (ratio if log is None else log) and min(seen, default=0) > 0:
        _log_axis(axes, seen)
    for mark in picture.marks or ((1.0,) if ratio else ()):
        axes.axvline(mark, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
    axes.set_yticks(rows, [_text(textwrap.fill(label, 2 * WRAP)) for label in picture.labels])
    _frame(axes, picture, grid="x")
    # as in bars, x says what the labels are and y what the values are; here values lie along the horizontal axis
    axes.set_xlabel(_text(picture.y or picture.x))
    axes.set_ylabel(_text(picture.x if picture.y else ""))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    right.set_yticks(rows, [_text(word) for word in words])
    right.tick_params(axis="y", length=0)
    right.spines[:].set_visible(False)
    if many > 1:
        _legend(axes, None, outside=True)


def _log_axis(axes: Any, seen: Sequence[float]) -> None:
    axes.set_xscale("log")
    ticks = [step * 10.0 ** power for power in range(-4, 5) for step in (1, 2, 5)]
    ticks = [tick for tick in ticks if min(seen) / 2.5 <= tick <= max(seen) * 2.5]
    if len(ticks) > 1:
        axes.set_xlim(min(*ticks, *seen) * 0.95, max(*ticks, *seen) * 1.05)
        axes.set_xticks(ticks, [number_text(tick) for tick in ticks])
        axes.minorticks_off()


def _heat(figure: Any, picture: Picture, **_: Any) -> None:
    """A matrix: one series per row, `columns` name its columns. Both signs: blue to red around zero; else white to blue."""
    matplotlib, axes = _matplotlib(), figure.subplots()
    rows = [_gaps(values) for _, values in picture.series]
    seen = [value for row in rows for value in row if not math.isnan(value)]
    both = min(seen, default=0) < 0
    reach = max(map(abs, seen), default=1.0) or 1.0
    low, high = picture.y_range or ((-reach, reach) if both else (0.0, reach))
    counts = all(isinstance(value, (int, type(None))) for _, values in picture.series for value in values)
    flat = [value for _, values in picture.series for value in values]
    shares = low >= -1 and high <= 1
    texts = iter([ABSENT if v is None else f"{v:.2f}".replace("-", "−") for v in flat] if shares else values_text(flat))
    colours = matplotlib.colormaps["RdBu_r" if low < 0 else "Blues"]
    scale = matplotlib.colors.Normalize(low, high)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            gap, word = math.isnan(value), count_text(int(value)) if counts and not math.isnan(value) else next(texts, "")
            fill: Any = "none" if gap else colours(0.06 + 0.88 * float(scale(value)))
            axes.add_patch(matplotlib.patches.Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, facecolor=fill, linewidth=0.6 if gap else 0,
                                                        edgecolor=MUTED if gap else "none", hatch=HATCH if gap else None))
            if not gap:
                dark = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] < 0.55       # ITU-R BT.601 luma
                axes.text(j, i, word, ha="center", va="center", fontsize=8.5, color="white" if dark else "black")
    axes.set_xlim(-0.5, len(picture.columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(picture.columns)), [_text(textwrap.fill(name, WRAP // 2)) for name in picture.columns])
    axes.set_yticks(range(len(rows)), [_text(textwrap.fill(name, WRAP)) for name, _ in picture.series])
    _frame(axes, picture, grid="")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if any(math.isnan(value) for row in rows for value in row) and seen:
        axes.legend([matplotlib.patches.Patch(facecolor="none", edgecolor=MUTED, hatch=HATCH)], [NOT_RELEASED], frameon=False,
                    loc="upper left", bbox_to_anchor=(1.0, 1.0))


# -- small parts -----------------------------------------------------------------------------------------------------------


def _frame(axes: Any, picture: Picture, *, grid: str) -> None:
    axes.set_xlabel(_text(picture.x))
    axes.set_ylabel(_text(picture.y))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=MUTED, alpha=0.25, linewidth=0.6)


def _legend(axes: Any, handles: list[Any] | None, *, outside: bool = False) -> None:
    place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if outside else {"loc": "best"}
    axes.legend(handles=handles or axes.get_legend_handles_labels()[0], frameon=False, fontsize=9, **place)


def _size(picture: Picture) -> tuple[float, float]:
    if picture.kind == "points":
        lines = len(picture.labels) * max(1, len(picture.series) // 3)
        return 7.2, 1.5 + 0.36 * lines
    if picture.kind == "heat":
        return 2.6 + 0.85 * len(picture.columns), 1.6 + 0.5 * len(picture.series)
    return 7.2, 4.2 + 0.26 * len(picture.below)


def anything(picture: Picture) -> bool:
    """Whether at least one number of a picture was released."""
    values = [value for curve in picture.curves for value in curve.y] + [value for _, row in picture.series for value in row]
    return any(value is not None for value in values)


def _colour(k: int) -> str:
    return PALETTE[k % len(PALETTE)]


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _value(value: float | None) -> str:
    if value is None:
        return "–"
    return count_text(value) if isinstance(value, int) else number_text(value)


def _text(value: str) -> str:
    """A label as it is: matplotlib would read a pair of dollar signs as mathematics."""
    return "\n".join(plain(line) for line in str(value).split("\n")).replace("$", r"\$")


def _matplotlib() -> Any:
    try:
        import matplotlib
        import matplotlib.colors
        import matplotlib.figure
        import matplotlib.patches
    except ImportError:
        raise InputError("pictures need matplotlib, which is not installed", hint='pip install "fedstats[show]"') from None
    return matplotlib
