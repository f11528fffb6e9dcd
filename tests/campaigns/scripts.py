"""Command lines that mean little, for all four scripts."""

import argparse
import contextlib
import importlib
import io
import json
import random
from pathlib import Path

from mutations import NUMBERS, TEXTS

from mhcln.console import Quiet

SCRIPTS = ("extract_features", "dataset_generator", "trainer", "eval")


def flag_seeds(_folder: Path) -> list[bytes]:
    return [name.encode() for name in SCRIPTS]


def random_flags(rng: random.Random, script: bytes, _other: bytes) -> bytes:
    """Return the JSON of a script's name and a command line that means little."""
    parser = importlib.import_module(script.decode()).parser()
    argv: list[str] = []
    for _ in range(rng.randrange(1, 8)):
        action = rng.choice(parser._actions)
        name = rng.choice([*action.option_strings, "--", "-", "--nothing", rng.choice(TEXTS)])
        argv += rng.choice(([f"{name}={_value(rng, action)}"], [name, _value(rng, action)], [name]))
    return json.dumps([script.decode(), argv]).encode()


def _value(rng: random.Random, action: argparse.Action) -> str:
    usual = [*(action.choices or ()), action.default, "8", "8,12", "0.5", "mixed_1,pool_3"]
    odd = [*NUMBERS, *TEXTS, "-1", "1e400", "nan", "-inf", "0x10", "1_0", "\u0663", "8,8", ",", "1" * 5000, "caf\udce9"]
    return str(rng.choice(rng.choice((usual, odd))))


PLACES = ("model_dir", "images_dir", "features", "split_dir", "add", "query")


def read_flags(folder: Path, content: bytes) -> object:
    """Parse the flags, and run the script until it looks for its first file, of which there is none."""
    name, argv = json.loads(content)
    script = importlib.import_module(name)
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        flags = script.parser().parse_args(argv)
    flags.dump_dir = folder / "dump"
    for place in PLACES:
        if getattr(flags, place, None) is not None:
            setattr(flags, place, folder / "absent" if place != "query" else str(folder / "absent"))
    script.main(flags, Quiet())
    return flags
