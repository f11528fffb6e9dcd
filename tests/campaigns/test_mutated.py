"""Files and flags that are damaged, nonsensical or hostile: each is read, or refused in one line.

MHCLN_CAMPAIGN says how many inputs are tried; the default keeps the test short. MHCLN_CAMPAIGN_KINDS names some of the
kinds only. An input depends on its kind, the seed and its number: `worker.py 0 FOLDER images:1234:1` reads the 1,234th
image again, and leaves it in FOLDER/case.bin.
"""

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from cases import KINDS

CAMPAIGN = int(os.environ.get("MHCLN_CAMPAIGN", "400"))
SEED = os.environ.get("MHCLN_CAMPAIGN_SEED", "0")
CHOSEN = os.environ.get("MHCLN_CAMPAIGN_KINDS", ",".join(KINDS)).split(",")
# of the inputs; a graph is compiled, which takes a tenth of a second
SHARES = {"flags": 30, "images": 30, "pickles": 12, "hdf5": 10, "keras": 3, "graphs": 2, "arrays": 5, "json": 8}
MOST_FAILURES = 40
HERE = Path(__file__).parent


def outcomes(wanted: dict[str, int], folder: Path) -> Iterator[tuple[str, int, str]]:
    """Kind, number and outcome of inputs, so many of each kind; a process that a case ends is followed by another."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)])}
    left = {kind: (0, count) for kind, count in wanted.items()}
    while left:
        parts = [f"{kind}:{first}:{end - first}" for kind, (first, end) in left.items()]
        command = [sys.executable, HERE / "worker.py", SEED, folder, *parts]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
        assert done.stdout, done.stderr  # it did not start
        for line in done.stdout.splitlines():
            kind, number, said = json.loads(line)
            left[kind] = number + 1, wanted[kind]
            yield kind, number, said
        left = {kind: (first, end) for kind, (first, end) in left.items() if first < end}
        if done.returncode:
            kind, (number, end) = next(iter(left.items()))
            left[kind] = number + 1, end
            yield kind, number, f"the process ended with {done.returncode}: {done.stderr[-3000:]}"
        elif left:
            yield "worker", 0, f"it left out {left}"
            return


def test_changed_inputs_are_read_or_refused_in_one_line(tmp_path):
    wanted = {kind: max(CAMPAIGN * SHARES[kind] // 100, 10) for kind in CHOSEN}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    failures = []
    for kind, number, said in outcomes(wanted, tmp_path):
        good = said in ("value", "line")
        counts[kind][said if good else "failure"] += 1
        if not good:
            failures.append(f"{kind} {SEED} {number}: {said}")
            assert len(failures) < MOST_FAILURES, "\n\n".join(failures)
    print({kind: dict(found) for kind, found in counts.items()})  # shown by `pytest -rP`
    assert not failures, "\n\n".join(failures)
    assert {kind: found.total() for kind, found in counts.items()} == wanted
