#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws what kv_memory measured: plot.py KV_MEMORY_JSON FOLDER

Writes FOLDER/memory_over_context.png, the cache of a sequence over its length, for each model and
attention variant; and, where caches were filled, FOLDER/memory_against_decode_time.png, what a
layer's cache takes against the time to attend to it.
"""

import json
import math
import pathlib
import sys

try:
    import matplotlib
except ModuleNotFoundError:
    sys.exit("plot.py: needs matplotlib: the package python3-matplotlib, or by pip")

matplotlib.use("Agg")  # no display is needed
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

KINDS = ["MHA", "GQA", "MQA", "MLA"]
# Distinct in hue and in lightness, so that they survive colour blindness and print.
COLOURS = {"MHA": "#c44e52", "GQA": "#dd8452", "MQA": "#8172b3", "MLA": "#2a7f62"}
MARKERS = {"MHA": "s", "GQA": "o", "MQA": "^", "MLA": "D"}
UNITS = (("TiB", 2.0**40), ("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10))
DASHED = "--"


def tokens_text(tokens):
    """8192 as 8k."""
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else str(tokens)


def bytes_text(value):
    """A power of two in the unit that suits it."""
    for unit, factor in UNITS:
        if value >= factor:
            return f"{value / factor:g} {unit}"
    return f"{value:g} B"


def time_text(milliseconds):
    return f"{milliseconds:g} ms" if milliseconds >= 1 else f"{1000 * milliseconds:g} us"


def powers(least, most, base):
    """The powers of base around [least, most]."""
    first, last = math.floor(math.log(least, base)), math.ceil(math.log(most, base))
    return [float(base) ** exponent for exponent in range(first, last + 1)]


def thinned(ticks, most):
    """Every so many of the ticks that at most `most` are left."""
    return ticks[:: -(-len(ticks) // most)]


class Grid:
    """A figure with a small plot for each model, all with the same logarithmic axes."""

    WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, GAP = 2.7, 2.4, 1.1, 0.3, 0.9, 1.25, 0.5  # inches

    def __init__(self, models, title, x_label, y_label):
        self.columns = min(5, len(models))
        rows = -(-len(models) // self.columns)
        width = max(self.LEFT + self.columns * self.WIDTH + self.RIGHT, 7.0)
        height = self.TOP + rows * self.HEIGHT + self.BOTTOM
        self.figure, grid = plt.subplots(
            rows, self.columns, figsize=(width, height), sharex=True, sharey=True, squeeze=False
        )
        self.figure.subplots_adjust(
            left=self.LEFT / width,
            right=1 - self.RIGHT / width,
            top=1 - self.TOP / height,
            bottom=self.BOTTOM / height,
            hspace=self.GAP / (self.HEIGHT - self.GAP / 2),
            wspace=0.12,
        )
        self.figure.suptitle(title, fontsize=14, y=1 - 0.25 / height)
        self.figure.text(0.5, 0.62 / height, x_label, ha="center", fontsize=11)
        self.figure.text(0.12 / width, 0.5, y_label, va="center", rotation="vertical", fontsize=11)
        self.height = height
        for axes, model in zip(grid.flat, models):
            axes.set_title(model["name"], fontsize=10)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.grid(True, color="#dddddd", linewidth=0.6)
            axes.set_axisbelow(True)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        for axes in grid.flat[len(models) :]:
            axes.set_visible(False)
        for column in grid.T:  # the lowest plot of a column names the ticks
            [axes for axes in column if axes.get_visible()][-1].tick_params(labelbottom=True)
        self.panels = list(zip(grid.flat, models))

    def scale(self, axis, ticks, text):
        """axis: "x" or "y"; text: how a tick is written."""
        for panel, _ in self.panels:
            one = getattr(panel, axis + "axis")
            one.set_minor_locator(NullLocator())
            one.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
            one.set_ticks(ticks)

    def save(self, handles, path):
        self.figure.legend(
            handles=handles,
            loc="lower center",
            bbox_to_anchor=(0.5, 0.05 / self.height),
            ncol=len(handles) if self.columns >= 4 else 4,
            fontsize=9,
            frameon=False,
        )
        self.figure.savefig(path, dpi=130)
        plt.close(self.figure)


def kind_handles(kinds, **style):
    return [
        Line2D([], [], color=COLOURS[kind], marker=MARKERS[kind], label=kind, **style)
        for kind in kinds
    ]


def black_handle(label, **style):
    return Line2D([], [], label=label, **{"color": "black", **style})


def draw_memory_over_context(report, path):
    grid = Grid(
        report["models"],
        f"KV-cache memory over context ({report['element']})",
        "context (tokens)",
        "cache of one sequence, all layers",
    )
    for axes, model in grid.panels:
        for variant in model["variants"]:
            colour, published = COLOURS[variant["kind"]], variant["published"]
            width, line = (2.6, "-") if published else (1.2, DASHED)
            axes.plot(*zip(*variant["curve"]), color=colour, linewidth=width, linestyle=line)
            marker = MARKERS[variant["kind"]]
            for one in variant["contexts"]:
                if "measured" in one:
                    allocated = one["measured"]["allocated_bytes"]
                    axes.plot(one["context"], allocated, marker, color=colour, markersize=4.5)
        if "max_context" in model:
            axes.axvline(model["max_context"], color="#999999", linewidth=0.8, linestyle=":")
    variants = [variant for model in report["models"] for variant in model["variants"]]
    points = [point for variant in variants for point in variant["curve"]]
    contexts = sorted({context for context, _ in points})
    sizes = [size for _, size in points]
    grid.scale("x", thinned(contexts, 4), lambda tokens: tokens_text(round(tokens)))
    grid.scale("y", powers(min(sizes), max(sizes), 8), bytes_text)
    grid.panels[0][0].set_xlim(contexts[0] / 1.3, contexts[-1] * 1.5)
    grid.save(
        kind_handles(KINDS, markersize=4.5)
        + [
            black_handle("as published", linewidth=2.6),
            black_handle("the same model converted", linewidth=1.2, linestyle=DASHED),
            black_handle("as allocated", marker="o", linestyle="", markersize=4.5),
            black_handle("made for up to", color="#999999", linewidth=0.8, linestyle=":"),
        ],
        path,
    )


def measured_points(model, context):
    """(variant, bytes of a layer's cache, milliseconds to attend to it), the smallest first."""
    num_layers = sum(layers["num_layers"] for layers in model["layers"])
    points = []
    for variant in model["variants"]:
        for one in variant["contexts"]:
            if one["context"] == context and "measured" in one:
                measured = one["measured"]
                size = measured["allocated_bytes"] / num_layers
                points.append((variant, size, 1e3 * measured["median_layer_seconds"]))
    return sorted(points, key=lambda point: point[1])


def draw_memory_against_decode_time(report, path):
    contexts = report["measured_contexts"]
    grid = Grid(
        report["models"],
        f"KV-cache memory against decode time ({report['element']}, threads: {report['threads']})",
        "cache of one layer, mean of all layers",
        "attention of a decode step in one layer",
    )
    every = []
    for axes, model in grid.panels:
        labels = {}  # of the largest cache at each context; windows make contexts coincide
        for context in contexts:
            points = measured_points(model, context)
            if not points:
                continue
            every += points
            _, sizes, times = zip(*points)
            axes.plot(sizes, times, color="#bbbbbb", linewidth=1, zorder=1)
            labels.setdefault((sizes[-1], times[-1]), []).append(tokens_text(context))
            for variant, size, time in points:
                colour, published = COLOURS[variant["kind"]], variant["published"]
                axes.plot(
                    size,
                    time,
                    MARKERS[variant["kind"]],
                    markersize=9 if published else 5.5,
                    markerfacecolor=colour if published else "white",
                    markeredgecolor=colour,
                    zorder=3 if published else 2,
                )
        for place, names in labels.items():
            axes.annotate(
                ", ".join(names),
                place,
                (6, -3),
                textcoords="offset points",
                fontsize=8,
                color="#555555",
            )
    sizes = [size for _, size, _ in every]
    times = [time for _, _, time in every]
    grid.scale("x", thinned(powers(min(sizes), max(sizes), 8), 3), bytes_text)
    grid.scale("y", powers(min(times), max(times), 10), time_text)
    grid.panels[0][0].set_xlim(min(sizes) / 2, max(sizes) * 6)  # room for the labels
    grid.save(
        kind_handles(KINDS, linestyle="")
        + [
            black_handle("as published", marker="o", linestyle="", markersize=9),
            black_handle(
                "the same model converted",
                marker="o",
                linestyle="",
                markerfacecolor="white",
                markersize=5.5,
            ),
            black_handle("the same context", color="#bbbbbb", linewidth=1),
        ],
        path,
    )


def draw_all(report, folder):
    models, contexts = report["models"], report["measured_contexts"]
    charts = {"memory_over_context.png": draw_memory_over_context}
    if any(measured_points(model, context) for model in models for context in contexts):
        charts["memory_against_decode_time.png"] = draw_memory_against_decode_time
    for name, draw in charts.items():
        draw(report, folder / name)
        print(f"wrote {folder / name}", file=sys.stderr)


def main(arguments):
    if arguments in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    if len(arguments) != 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    source, folder = map(pathlib.Path, arguments)
    try:
        report = json.loads(source.read_text())
        folder.mkdir(parents=True, exist_ok=True)
        draw_all(report, folder)
    except OSError as error:
        print(f"plot.py: {error}", file=sys.stderr)
        return 2
    except (ValueError, LookupError, TypeError) as error:
        print(f"plot.py: {source}: not written by kv_memory: {error!r}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
