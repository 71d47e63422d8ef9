"""Figures of numbers, as (H, W, 3) uint8 images that the report embeds."""

from collections.abc import Mapping

import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

COLORS = ("#2a6f97", "#e07a5f", "#9aa5b1", "#81b29a", "#6d597a")


def bar_chart(shares: Mapping[str, Mapping[str, float | None]], label: str) -> np.ndarray:
    """Grouped bars, one colour a system.

    Args:
        shares: {system: {group: 0..1, None where there is nothing to show}}, the same groups for all.
        label: of the axis, which shows percent.
    """
    groups = list(next(iter(shares.values())))
    figure, axes = plt.subplots(figsize=(9, 4), dpi=120, layout="constrained")
    width = 0.8 / len(shares)
    for k, (name, values) in enumerate(shares.items()):
        places = np.arange(len(groups)) + (k - (len(shares) - 1) / 2) * width
        heights = [100 * (values[group] or 0) for group in groups]
        bars = axes.bar(places, heights, width, label=name, color=COLORS[k % len(COLORS)])
        axes.bar_label(bars, [f"{h:.1f}" if values[g] is not None else "n/a" for g, h in zip(groups, heights)], fontsize=8)
    axes.set_xticks(np.arange(len(groups)), groups)
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=len(shares), fontsize=8)
    return _to_picture(figure)


def scatter_chart(points: Mapping[str, tuple[float, float | None]], x_label: str, y_label: str) -> np.ndarray:
    """One named point a system; x on a logarithmic axis.

    Args:
        points: {system: (x above 0, 0..1 shown in percent, or None where there is nothing to show)}.
    """
    figure, axes = plt.subplots(figsize=(9, 4), dpi=120, layout="constrained")
    for k, (name, (x, share)) in enumerate(points.items()):
        if share is None:
            continue
        axes.scatter(x, 100 * share, s=60, color=COLORS[k % len(COLORS)])
        axes.annotate(name, (x, 100 * share), xytext=(7, 5), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.25, y=0.15)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    return _to_picture(figure)


def _to_picture(figure: plt.Figure) -> np.ndarray:
    figure.canvas.draw()
    image = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    return image
