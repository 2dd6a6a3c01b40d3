#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws what `smollm2 perplexity` measured: plot.py CACHES_MD WINDOWS_MD FOLDER

Writes FOLDER/perplexity.png: for each element that caches store, the bytes of a token against the
text's perplexity, and against the time of a decode step. WINDOWS_MD is the same with a window.
"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")  # no display is needed
import matplotlib.pyplot as plt

FULL, WINDOW = "#2a7f62", "#c44e52"  # distinct in hue and in lightness


def rows(path):
    """(element, bytes a token, perplexity, milliseconds) of each row of a table."""
    for line in pathlib.Path(path).read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[1].isdigit():
            yield cells[0], int(cells[1]), float(cells[3]), float(cells[4])


def draw(axes, table, column, colour, marker, label):
    x = [row[1] / 1000 for row in table]
    y = [row[column] for row in table]
    axes.scatter(x, y, color=colour, marker=marker, s=45, label=label, zorder=3)


def name_points(axes, table, column):
    """Each element's name right of its point, moved up where names would overlap."""
    low, high = axes.get_ylim()
    least = 0.045 * (high - low)  # from one name to the next
    for size in {row[1] for row in table}:
        place = low - least
        for row in sorted((row for row in table if row[1] == size), key=lambda row: row[column]):
            place = max(row[column], place + least)
            axes.annotate(row[0], (size / 1000, place), textcoords="offset points",
                          xytext=(8, 0), fontsize=8, va="center")


def main(caches, windows, folder):
    all_full, all_window = list(rows(caches)), list(rows(windows))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), constrained_layout=True)
    for axes, column, title in ((left, 2, "perplexity"), (right, 3, "ms a decoded token")):
        # Native elements lose what the others do.
        full, window = ([row for row in table if column == 3 or not row[0].endswith("-native")]
                        for table in (all_full, all_window))
        draw(axes, full, column, FULL, "o", "all tokens kept")
        draw(axes, window, column, WINDOW, "^", "4 sinks and a window of 1020")
        axes.set_xscale("log", base=2)
        axes.set_xlim(right=80)  # room for the last name
        ticks = sorted({row[1] / 1000 for row in full})
        axes.set_xticks([tick for tick in ticks if all(abs(tick - t) / t > 0.1 or tick == t
                                                       for t in ticks[:ticks.index(tick)])])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("kB of cache a token, all layers")
        axes.set_ylabel(title)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        name_points(axes, full, column)
    left.legend(frameon=False)
    figure.savefig(pathlib.Path(folder) / "perplexity.png", dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:4])
