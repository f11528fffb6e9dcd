"""Reads changed inputs in a process of its own: `worker.py SEED FOLDER KIND:FIRST:COUNT ...`.

Prints one line of JSON a case: its kind and number, and "value", "line" or the traceback. A case that takes longer than
ten seconds ends the process with its traceback on stderr; memory is limited to 2 GiB above what it takes at first.
"""

import faulthandler
import json
import random
import resource
import sys
import traceback
import warnings
from pathlib import Path

from cases import KINDS, Kind

from mhcln.console import UserError
from mhcln.data.reading import ImageError
from mhcln.quiet_tensorflow import tf

SECONDS = 10
MEMORY = 2**31


def main(seed: str, folder: Path, parts: list[tuple[str, int, int]]) -> None:
    """Read cases; each part is a kind, the number of its first case, and how many there are."""
    warnings.simplefilter("error")  # what a script would print beside its one line
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # as Python does
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as the scripts do
    seeds = {kind: KINDS[kind].seeds(folder) for kind, _first, _count in parts}
    for kind, wholes in seeds.items():
        for whole in wholes:
            outcome(KINDS[kind], folder, whole)  # loads and compiles what later cases need
    tf.constant(0)
    limit = virtual_memory() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for kind, first, count in parts:
        for number in range(first, first + count):
            rng = random.Random(f"{kind} {seed} {number}")
            content = KINDS[kind].change(rng, rng.choice(seeds[kind]), rng.choice(seeds[kind]))
            (folder / "case.bin").write_bytes(content)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            said = outcome(KINDS[kind], folder, content)
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps([kind, number, said]), flush=True)


def outcome(kind: Kind, folder: Path, content: bytes) -> str:
    """Return what became of one input."""
    try:
        kind.read(folder, content)
    except (UserError, ImageError) as error:
        text = str(error)
        if not text.strip() or "\n" in text or len(text) > 2000 or "MemoryError" in text:
            return f"not a good line: {text[:3000]!r}"
        return "line"
    except SystemExit as left:
        return "line" if left.code in (0, 2) else f"exit status {left.code}"
    except Exception:
        return traceback.format_exc()
    return "value"


def virtual_memory() -> int:
    """Return the bytes of this process's address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    given = (part.split(":") for part in sys.argv[3:])
    main(sys.argv[1], Path(sys.argv[2]), [(kind, int(first), int(count)) for kind, first, count in given])
