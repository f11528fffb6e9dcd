"""The lines that a person reads at the terminal after an evaluation."""

from typing import Any

from mhcln.evaluation import RADIUS, shared_figures


def lines(content: dict[str, Any]) -> list[str]:
    """The lines that a person reads at the terminal."""
    k = content["k"]
    left_out = content["queries_left_out"]
    where = {"test": "test", "train": "training", "all": "training and test"}[content["archive"]]
    told = [
        f"{content['run']}: {content['dataset'] or 'unknown data set'}, {content['bits']} bits, "
        f"{content['queries']} test images, each compared with {content['searched']} {where} images"
    ]
    if content["stamp"]:
        told.append(content["stamp"])
    if left_out:
        told.append(f"{left_out} queries have no other image of their class to find: left out of every mean")
    width = max(map(len, figures(k)))
    return told + [f"  {name:{width}}  {_text(content[name])}" for name in figures(k)] + cost_table(content)


def figures(k: int) -> list[str]:
    """The single figures of an evaluation, in the order in which people read them."""
    within = [f"{letter}_radius{RADIUS}" for letter in ("P", "R", "empty")]
    health = ["distinct_codes", "bit_balance_mean", "bit_balance_worst", "bit_correlation_mean"]
    *shared, tied = shared_figures(k)
    return [*shared, *within, tied, *health]


def cost_table(content: dict[str, Any]) -> list[str]:
    """What hashing costs, as lines of a table; none where there is nothing to compare the codes with."""
    rows, k = content["costs"], content["k"]
    if len(rows) < 2:
        return []
    names = (f"mAP@{k}", f"mAP@{k}_tie_aware", "mAP", f"P@{k}")
    table = [["", "", "", *names]]
    for row in rows:
        size = f"{row['bytes_per_image']} B"
        table.append([row["what"], row["stored"], size, *(f"{row[name]:.4f}" for name in names)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
    return ["what hashing costs:", *(f"  {line}" for line in lines)]


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value}" if isinstance(value, int) else f"{value:.4f}"
