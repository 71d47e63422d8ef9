"""What becomes of a data set's objects in SOLOv2's grids, counted by level, size and class, and as tables to read."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from solov2.grids.claims import COCO_CELLS, Claims, Layout, count_claims
from solov2.grids.objects import Objects
from solov2.grids.recall_bound import Detectable, detectable_objects, recall_upper_bound

SIDES = (0, 8, 16, 32, 64, 96, 192, np.inf)
"""Bounds of sqrt(mask area) in pixels of the original image; COCO's small, medium and large part at 32 and 96."""
COCO_SIZES = {"small": (0, 32), "medium": (32, 96), "large": (96, np.inf)}


def counts_of(objects: Objects, claims: Claims, chosen: np.ndarray) -> dict[str, int]:
    """How many of the chosen objects ((N,) bool) meet which fate."""
    fates = {
        "objects": np.ones(len(objects), dtype=bool),
        "outside": objects.has_pixel & ~claims.is_in_range,
        "collide": claims.collides,
        "no own cell": claims.has_no_own_cell,
        "centre lost": claims.loses_center,
        "lost": claims.is_lost,
        "no pixel": ~objects.has_small_pixel,
    }
    return {name: int(np.count_nonzero(fate & chosen)) for name, fate in fates.items()}


def groups_of(objects: Objects) -> Iterator[tuple[str, str, np.ndarray]]:
    """Kind ("size" or "class"), name and members of every group that has any."""
    sides = np.sqrt(objects.areas)
    bounds = COCO_SIZES | {f"{a}-{b}" if b < np.inf else f"from {a}": (a, b) for a, b in pairwise(SIDES)}
    for name, (smallest, end) in bounds.items():
        yield "size", name, (sides >= smallest) & (sides < end)
    for k, name in enumerate(objects.class_names):
        yield "class", name, objects.classes == k


def examine(objects: Objects, layout: Layout) -> dict:
    """All numbers of a layout, as --json keeps them."""
    levels = count_claims(objects, layout)
    claims, detectable = Claims.of_all(levels), detectable_objects(objects, layout, levels)
    described = []
    for grid, scale_range, level in zip(layout.grids, layout.scale_ranges, levels):
        counts = counts_of(objects, level, level.is_in_range)
        described.append({"grid": list(grid), "scale_range": list(scale_range)} | counts)
    groups: dict[str, dict] = {"size": {}, "class": {}}
    for kind, name, members in groups_of(objects):
        if members.any():
            groups[kind][name] = _describe(objects, claims, detectable, members)
    return {
        "cells": layout.num_cells,
        "cost": layout.cost,
        "pos_scale": layout.pos_scale,
        "levels": described,
        "all": _describe(objects, claims, detectable, np.ones(len(objects), dtype=bool)),
        "by_size": groups["size"],
        "by_class": groups["class"],
    }


def _describe(objects: Objects, claims: Claims, detectable: Detectable, members: np.ndarray) -> dict:
    return counts_of(objects, claims, members) | {"AR": recall_upper_bound(objects, detectable, members)}


def format_levels(title: str, examined: dict) -> str:
    """The levels of a layout as a table."""
    fates = ("objects", "collide", "no own cell", "centre lost", "lost")
    rows = [["level", "grid", "sizes", *fates]]
    for number, level in enumerate(examined["levels"], start=1):
        place = [str(number), "x".join(map(str, level["grid"])), "-".join(f"{side:g}" for side in level["scale_range"])]
        rows.append(place + _with_shares(level, fates))
    rows.append(["all", str(examined["cells"]), "", *_with_shares(examined["all"], fates)])
    outside = _with_shares(examined["all"], ["outside"])[0]
    cells = f"{examined['cells']} cells, {examined['cost']:.2f} times COCO's {COCO_CELLS}"
    recall = examined["all"]["AR"]
    bound = f"mask AR at most {_range(recall)}, {100 * recall['apart']:.1f} if no two objects claimed the same cell"
    return f"{title}: {cells}; outside all ranges: {outside}\n{bound}\n{_align(rows)}"


def format_groups(kind: str, now: dict, proposed: dict) -> str:
    """What becomes of the objects by size or class, in two layouts, as a table."""
    fates = ("outside", "collide", "no own cell", "centre lost", "lost")
    rows = [[kind, "objects", "no pixel", *fates, "AR", "|", *fates, "AR"]]
    for name, counts in now.items():
        shares_now = _with_shares(counts, ["objects", "no pixel", *fates], is_short=True)
        shares_then = _with_shares(proposed[name], fates, is_short=True)
        rows.append([name, *shares_now, _range(counts["AR"]), "|", *shares_then, _range(proposed[name]["AR"])])
    return _align(rows)


def _range(recall: dict[str, float]) -> str:
    return f"{100 * recall['alone']:.1f}-{100 * recall['labelled']:.1f}"


def _with_shares(counts: dict, names: Sequence[str], is_short: bool = False) -> list[str]:
    """Counts, all but that of the objects with their share of them, or the share alone."""
    texts = []
    for name in names:
        share = f"{100 * counts[name] / max(1, counts['objects']):.1f} %"
        texts.append(str(counts[name]) if name == "objects" else share if is_short else f"{counts[name]} ({share})")
    return texts


def _align(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("  ".join([row[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(row[1:], widths[1:]))]) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)


def config_lines(layout: Layout) -> str:
    """What to paste into a config."""
    grids, ranges = (", ".join(f"({a:g}, {b:g})" for a, b in pairs) for pairs in (layout.grids, layout.scale_ranges))
    return f"model = dict(\n    mask_head=dict(\n        num_grids=[{grids}],\n        scale_ranges=({ranges}),\n    )\n)"
