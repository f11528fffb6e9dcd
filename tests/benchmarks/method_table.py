"""Runs of many methods, bit lengths and splits as a Markdown table with a paired test, and as a picture."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from line_chart import lines
from scipy import stats

METRICS = ("mAP@20", "mAP@20_tie_aware")
TESTED = METRICS[1]  # equal codes in storage order can be lucky; their expectation cannot
LEVEL = 0.05
# Test images for each training image at 60 % training: what the test below corrects with.
TEST_TO_TRAIN = 2 / 3
SUMMARY_BITS = 32
SHOWN_BELOW_BEST = 0.06  # mAP: what is farther below the best is cut off the picture, as are methods that always are


@dataclasses.dataclass(frozen=True, order=True)
class Key:
    """What tells one run from another."""

    features: str
    protocol: str
    method: str
    bits: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of a run: a value for each of METRICS; seconds of a processor, of training alone."""

    key: Key
    values: tuple[float, ...]
    distinct_codes: int
    iterations: int
    cpu_seconds: float


Runs = dict[int, Result]  # by seed


def p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Return how likely a difference of means at least this large is if there is none: a paired t test over splits.

    Wilcoxon's signed ranks of 5 splits cannot be less likely than 2/2^5 = 0.0625, so they never find a difference.
    Splits of the same images overlap, which makes an ordinary paired t test see differences where there are none: the
    variance of the mean is taken as (1/n + test/train) times that of the differences (Nadeau and Bengio, "Inference
    for the generalization error", Machine Learning 52, 2003).

    Worked: differences 0.01, 0.02, 0.03 have mean 0.02 and deviation 0.01; t = 0.02 / (0.01 √(1/3 + 2/3)) = 2, of
    which two degrees of freedom give 0.184.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    n, deviation = len(differences), statistics.stdev(differences)
    if deviation == 0:
        return float(differences[0] == 0)
    t = statistics.fmean(differences) / (deviation * math.sqrt(1 / n + TEST_TO_TRAIN))
    return float(2 * stats.t.sf(abs(t), n - 1))


def markdown(results: Iterable[Result]) -> str:
    """Return the tables of all features files and protocols, one after another."""
    parts = []
    groups = _by_features(results)
    for (features, protocol), group in groups.items():
        parts.append(f"**{features}**, {protocol}\n\n{_table(group)}")
    for features in dict.fromkeys(features for features, _ in groups):
        own = {protocol: group for (name, protocol), group in groups.items() if name == features}
        if len(own) > 1:
            parts.append(f"**{features}**, {SUMMARY_BITS} bits, {TESTED}, trained on\n\n{_by_protocol(own)}")
    parts.append(
        "mAP@20 as published / tie-aware: mean ± sample standard deviation over splits, the latter in 1/10,000.\n"
        f"In bold what does not differ from the best of its column ({TESTED}; corrected paired t test, p >= {LEVEL:g})."
    )
    return "\n\n".join(parts) + "\n"


def pictures(results: Iterable[Result], titles: Mapping[str, str]) -> dict[str, str]:
    """Return a picture for each features file and protocol with several bit lengths: mAP over bits, by file name."""
    made = {}
    for (features, protocol), group in _by_features(results).items():
        found = {}
        for method in dict.fromkeys(method for method, _ in group):
            mine = {bits: runs for (name, bits), runs in group.items() if name == method}
            if len(mine) > 1:
                points = [(bits, *_mean_and_deviation(runs, TESTED)) for bits, runs in sorted(mine.items())]
                found[titles[method]] = points
        best = max((mean for points in found.values() for _, mean, _ in points), default=0.0)
        low = best - SHOWN_BELOW_BEST
        shown = {name: points for name, points in found.items() if max(mean for _, mean, _ in points) > low}
        if shown:
            name = f"{features}_{protocol}.svg".replace(" ", "_").replace("%", "percent").replace(",", "")
            made[name] = lines(f"{features}, {protocol}: {TESTED} over bits", "bits", shown, low)
    return made


def _by_features(results: Iterable[Result]) -> dict[tuple[str, str], dict[tuple[str, int], Runs]]:
    found: dict[tuple[str, str], dict[tuple[str, int], Runs]] = {}
    for each in sorted(results, key=lambda result: (result.key.features, _order(result.key.protocol), result.key)):
        key = each.key
        group = found.setdefault((key.features, key.protocol), {})
        group.setdefault((key.method, key.bits), {})[key.seed] = each
    return found


def _order(protocol: str) -> tuple[bool, float]:
    """Return what sorts protocols: the usual one, then fewer and fewer images of each class, then unseen classes."""
    first, *rest = protocol.split()
    return rest[:1] != ["%"], -float(first) if "each" in rest else math.inf


def _table(group: dict[tuple[str, int], Runs]) -> str:
    every = sorted({bits for _, bits in group if bits <= 128})
    wide = {method: bits for method, bits in group if bits > 128}
    methods = sorted({method for method, _ in group}, key=lambda name: -_best(group, name))
    rows = [["method", *(f"{bits} bits" for bits in every), "distinct codes", "iterations", "CPU seconds"]]
    for method in methods:
        mine = {bits: runs for (name, bits), runs in group.items() if name == method}
        name = f"`{method}`" + (f", {wide[method]:,} bits" if method in wide else "")
        shown = [wide[method]] if method in wide else every
        cells = [_cell(mine.get(bits), _rivals(group, bits)) for bits in shown]
        cells += [""] * (len(every) - len(cells))
        last = [run for runs in mine.values() for run in runs.values()]
        distinct = statistics.median(run.distinct_codes for run in last)
        seconds = statistics.median(run.cpu_seconds for run in last)
        iterations = f"{last[0].iterations:,}" if last[0].iterations else ""
        rows.append([name, *cells, f"{distinct:,.0f}", iterations, f"{seconds:.3g}"])
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "| --- " + "| ---: " * (len(rows[0]) - 1) + "|", *body])


def _by_protocol(groups: dict[str, dict[tuple[str, int], Runs]]) -> str:
    """Return the table of one bit length, a column for each protocol, the best of the first column first."""
    columns = [
        {method: runs for (method, bits), runs in group.items() if bits in (SUMMARY_BITS, max(b for _, b in group))}
        for group in groups.values()
    ]
    means = [{name: _mean_and_deviation(runs, TESTED)[0] for name, runs in column.items()} for column in columns]
    methods = sorted({name for column in columns for name in column}, key=lambda name: -means[0].get(name, 0.0))
    rows = [["method", *groups]]
    for name in methods:
        cells = []
        for column, mean in zip(columns, means, strict=True):
            text = f"{mean[name]:.3f}" if name in column else ""
            worse = name not in column or not _as_good(column[name], column[max(mean, key=mean.__getitem__)])
            cells.append(text if worse else f"**{text}**")
        rows.append([f"`{name}`", *cells])
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "| --- " + "| ---: " * len(groups) + "|", *body])


def _best(group: dict[tuple[str, int], Runs], method: str) -> float:
    return max(_mean_and_deviation(runs, TESTED)[0] for (name, _), runs in group.items() if name == method)


def _rivals(group: dict[tuple[str, int], Runs], bits: int) -> list[Runs]:
    return [runs for (_, length), runs in group.items() if length == bits]


def _cell(runs: Runs | None, rivals: list[Runs]) -> str:
    if runs is None:
        return ""
    found = [_mean_and_deviation(runs, name) for name in METRICS]
    text = " / ".join(f"{mean:.4f} ± {1e4 * deviation:.0f}" for mean, deviation in found)
    best = max(rivals, key=lambda each: _mean_and_deviation(each, TESTED)[0])
    return f"**{text}**" if len(rivals) > 1 and _as_good(runs, best) else text


def _as_good(runs: Runs, best: Runs) -> bool:
    shared = sorted(runs.keys() & best.keys())
    if runs is best or len(shared) < 2:
        return runs is best
    own, other = (_values([each[seed] for seed in shared], TESTED) for each in (runs, best))
    return p_value(own, other) >= LEVEL


def _mean_and_deviation(runs: Runs, metric: str) -> tuple[float, float]:
    values = _values(runs.values(), metric)
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _values(runs: Iterable[Result], metric: str) -> list[float]:
    place = METRICS.index(metric)
    return [run.values[place] for run in runs]
