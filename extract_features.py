"""Describe every image of a data set by pool_3 (or other layers) of a pretrained Inception-v3: writes features.npz."""

import argparse
from pathlib import Path

from mhcln import cli


def parser() -> cli.Parser:
    """The flags of this script."""
    parser = cli.Parser("Extract image features with a pretrained Inception-v3 into dump_dir/features.npz.")
    add = parser.add_argument
    add(
        "--model_dir",
        type=Path,
        help="folder with classify_image_graph_def.pb[.gz] or Keras InceptionV3 weights; "
        "without it Keras's ImageNet weights, downloaded once",
    )
    add("--images_dir", type=Path, required=True, help="folder of class folders of images")
    add("--dataset", help="name of the data set, where the folder names do not say it (UCMD, AID, or your own)")
    add("--unlabelled", action="store_true", help="take all images under images_dir, without classes, for search only")
    add("--batch_size", type=cli.whole_number(1), default=32, help="images per run of the network")
    add(
        "--tiff",
        choices=("jpeg", "pixels"),
        help="feed TIFFs as JPEG of quality 100, as the published code does, "
        "or their pixels; default jpeg with the paper's graph, pixels otherwise",
    )
    add(
        "--on_error",
        choices=("stop", "skip"),
        default="stop",
        help="at images that cannot be read: stop with their list, or leave them out and list them in skipped.csv",
    )
    add("--precision", choices=("float32", "bfloat16", "float16"), default="float32", help="of the network")
    add("--views", type=int, choices=(1, 8), default=1, help="average over this many flips and quarter turns")
    add(
        "--layers",
        type=cli.names,
        default="pool_3",
        help="layers whose means over space are the features: pool_3 as in the paper, or several of mixed, "
        "mixed_1, ..., mixed_10 with commas between",
    )
    add("--random_weights", type=cli.whole_number(0), metavar="SEED", help="a network with random weights, for trials")
    return parser


def main(flags: argparse.Namespace, console: cli.Console) -> None:
    """Scan the images, open the backbone, extract."""
    from mhcln import datasets

    if flags.unlabelled and flags.dataset:
        raise cli.UserError("--unlabelled images belong to no --dataset; leave one of the two out")
    scan = (
        datasets.scan_unlabelled(flags.images_dir)
        if flags.unlabelled
        else datasets.scan(flags.images_dir, flags.dataset)
    )
    for note in scan.notes:
        console.warn(note)
    from mhcln.extraction import extract
    from mhcln.inception import open_backbone

    backbone = open_backbone(
        console, flags.model_dir, flags.random_weights, flags.tiff, flags.precision, flags.views, flags.layers
    )
    extract(scan, backbone, flags.dump_dir, flags.batch_size, flags.on_error == "skip", console)


if __name__ == "__main__":
    cli.run(parser(), main)
