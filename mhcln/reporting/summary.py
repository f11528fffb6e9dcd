"""The lines printed after an evaluation, and the text of a number."""

from mhcln.evaluation.definitions import FULL_MAP, PRECISION, PUBLISHED_MAP, TIE_AWARE_MAP, metric_names
from mhcln.storage.results import Results

# Names for people of the values of `Results.archive`.
ARCHIVE_NAMES = {"test": "test", "train": "training", "all": "training and test", "database": "database"}
# The published 0.904, its authors' 0.9034 and an independent 0.885 are of one method (README, "How it compares"); seeds
# and processors move one run of mhcln as much.
ONE_RUN = (
    "one split, one seed: differences below 0.02 mean nothing; "
    "dataset_generator.py and trainer.py with --seed=0,1,2, then eval.py --table, compare means"
)
COST_METRICS = (PUBLISHED_MAP, TIE_AWARE_MAP, FULL_MAP, PRECISION)


def lines(results: Results) -> list[str]:
    """Return the summary of an evaluation: the archive, every metric, the costs of hashing."""
    text = [
        f"{results.run}: {results.inputs.dataset or 'unknown data set'}, {results.bits} bits, "
        f"{results.queries} test images, each compared with {results.searched} "
        f"{ARCHIVE_NAMES[results.archive]} images"
    ]
    if results.stamp:
        text.append(results.stamp)
    if results.queries_left_out:
        text.append(
            f"{results.queries_left_out} queries have no other image of their class to find: left out of every mean"
        )
    names = metric_names(results.k)
    width = max(map(len, names))
    text += [f"  {name:{width}}  {number(results.metrics[name])}" for name in names]
    return [*text, ONE_RUN, *_cost_table(results)]


def number(value: float | None, missing: str = "-", separator: str = "") -> str:
    """Return the text of a metric or a count.

    Args:
        value: A fraction, a count, or None if there is nothing to measure.
        missing: The text of None.
        separator: Thousands separator of a count, "," or nothing.

    Returns:
        0.8910 for 0.891048; 1312 or 1,312 for 1312.
    """
    if value is None:
        return missing
    return f"{value:{separator}}" if isinstance(value, int) else f"{value:.4f}"


def _cost_table(results: Results) -> list[str]:
    """Return the table of the costs of hashing; none if there is nothing to compare the codes with."""
    if len(results.costs) < 2:
        return []
    names = [metric.key(results.k) for metric in COST_METRICS]
    table = [["", "", "", *names]]
    for cost in results.costs:
        size = f"{cost.bytes_per_image} B"
        table.append([cost.what, cost.stored, size, *(number(cost.metrics[name]) for name in names)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    aligned = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    return ["what hashing costs:", *(f"  {row}" for row in aligned)]
