"""The four scripts on scenes that are drawn here, as a user would run them: python -m mhcln.demo.

No download: the backbone has seeded random weights, so its features, and the metrics made from them, say that the
pipeline works, not how well the method does on real images.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from PIL import Image

from mhcln import cli
from mhcln.console import Console
from mhcln.data.datasets import REPO_ROOT
from mhcln.demo import scenes
from mhcln.storage import layout

IMAGES = 55  # so that 22 of each class are left to test with, and all of the 19 that a picture shows can be right
ITERATIONS = 1500
GALLERY = (79, 99, 119, 139)  # test images of a harbor, a parking lot, a residential area, a runway


def parser() -> cli.Parser:
    """Return the parser of the demo's flags."""
    parser = cli.Parser("Draw small aerial-like scenes and run the four scripts on them.")
    parser.set_defaults(dump_dir=Path("demo_dir/"))
    parser.add_argument(
        "--gallery", type=cli.path, help="folder for some of the pictures as JPEG, as the README shows them"
    )
    return parser


def main(flags: argparse.Namespace, console: Console) -> None:
    """Draw the scenes, run the pipeline, say where the results are."""
    images, dump = flags.dump_dir / "scenes", f"--dump_dir={flags.dump_dir}"
    console.say(f"drawing {IMAGES} scenes of each of {len(scenes.SCENES)} classes in {images}")
    scenes.draw_folders(images, IMAGES)
    for script, *script_flags in (
        ("extract_features.py", "--random_weights=0", f"--images_dir={images}"),
        ("dataset_generator.py", "--train_test_split=0.6"),
        ("trainer.py", "--HASH_BITS=32", "--ALPHA=0.2", "--BATCH_SIZE=90", f"--ITERS={ITERATIONS}"),
        ("eval.py", "--k=20", "--interval=10", "--run_name=K32"),
    ):
        console.say(f"\n$ python {' '.join([script, *script_flags, dump])}")
        ended = subprocess.run([sys.executable, REPO_ROOT / script, *script_flags, dump], check=False)
        if ended.returncode:
            sys.exit(ended.returncode)
    pictures = flags.dump_dir / "K32" / layout.PICTURES
    if flags.gallery:
        flags.gallery.mkdir(parents=True, exist_ok=True)
        for index in GALLERY:
            with Image.open(pictures / layout.picture_name(index)) as picture:
                picture.save(flags.gallery / f"sample_{index}.jpg", quality=80)
    console.say(f"\nThe retrieved samples are in {pictures}: open one, or report.html.")


if __name__ == "__main__":
    cli.run(parser(), main)
