"""Extract features of every image of a data set: pool_3 (or other layers) of a pretrained Inception-v3."""

import argparse

from mhcln import cli, device
from mhcln.backbone import recipe
from mhcln.backbone.recipe import BackboneOptions, Inference
from mhcln.console import Console
from mhcln.data.reading import PRESETS, Reading
from mhcln.pipeline.extract import extract_features
from mhcln.pipeline.extraction import ExtractOptions
from mhcln.pipeline.hash_images import hash_images
from mhcln.pipeline.workers import ClusterOptions
from mhcln.storage.features import SHARD_IMAGES

MOST_SHARD_IMAGES = 2**31
MOST_WORKERS = 4096
LARGEST_BATCH = 1024  # images of 299x299 pixels: 1.1 GB of float32, several of which are in memory at a time


def parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser("Extract image features with a pretrained Inception-v3 into dump_dir.")
    add = parser.add_argument
    add(
        "--model_dir",
        type=cli.path,
        help="folder with classify_image_graph_def.pb[.gz], inception-2015-12-05.tgz or Keras InceptionV3 weights; "
        "without it Keras's ImageNet weights, downloaded once",
    )
    add("--images_dir", type=cli.path, required=True, help="folder of class folders of images")
    add(
        "--hash_with",
        type=cli.path,
        metavar="RUN",
        help="folder of a run such as dump_dir/K32: its backbone and its network hash the images into its archive, and "
        "no features are kept",
    )
    add("--dataset", help="name of the data set, if the folder names do not say it (UCMD, AID, or your own)")
    add(
        "--unlabelled",
        action="store_true",
        help="take all images under images_dir, without classes: for search, and for trainer.py --loss=itq",
    )
    add(
        "--batch_size",
        type=cli.whole_number(1, LARGEST_BATCH),
        help="images per run of the network; if not given, 32, on a GPU 128",
    )
    add(
        "--shard_images",
        type=cli.whole_number(1, MOST_SHARD_IMAGES),
        metavar="N",
        help="of more images than that, the features go to features.json and files of N images in features/, in place "
        f"of one features.npz; if not given, as many as in the shards that are there, or {SHARD_IMAGES:,}",
    )
    add(
        "--tiff",
        choices=recipe.TIFF_STEPS,
        default="",
        help="feed TIFFs as JPEG of quality 100, as the published code does, or their pixels; "
        "if not given, jpeg with the paper's graph, pixels otherwise",
    )
    add(
        "--bands",
        type=cli.band_numbers,
        default=(),
        metavar="RED,GREEN,BLUE",
        help="bands of a raster, the first is 1; or one, for grey; if not given, those that the file calls so",
    )
    add(
        "--range",
        type=cli.value_range,
        metavar="LOW,HIGH",
        help="values that become 0 and 255 in images of more than 8 bits, such as 0,3000 for reflectance times 10,000; "
        "if not given, the range of their type",
    )
    add("--preset", choices=tuple(PRESETS), default="", help="bands and range of a product, by the file's descriptions")
    add(
        "--on_error",
        choices=("stop", "skip"),
        default="stop",
        help="at images that cannot be read: stop with their list, or leave them out and list them in skipped.csv",
    )
    add("--device", choices=device.CHOICES, default="auto", help="what computes; auto is a GPU if there is one")
    add("--precision", choices=recipe.PRECISIONS, default=recipe.PRECISIONS[0], help="of the network")
    add("--views", type=int, choices=recipe.ROTATIONS, default=1, help="average over this many rotations and flips")
    add(
        "--training_views",
        type=cli.whole_number(1, recipe.ALL_ROTATIONS),
        default=1,
        metavar="N",
        help="extract so many rotations and flips, each apart, to train on (trainer.py --training_views)",
    )
    add(
        "--layers",
        type=cli.names,
        default=",".join(recipe.POOL_3),
        help="layers whose means over space are the features: pool_3 as in the paper, or several of mixed, "
        "mixed_1, ..., mixed_10 with commas between",
    )
    add(
        "--random_weights",
        type=cli.whole_number(0, cli.LARGEST_SEED),
        metavar="SEED",
        help="a network with random weights, for trials",
    )
    add(
        "--workers",
        type=cli.whole_number(1, MOST_WORKERS),
        metavar="N",
        help="let so many processes compute, on this machine or, with --address, on a cluster; needs Ray",
    )
    add(
        "--address",
        help="of a running Ray cluster: auto, host:port or ray://host:port; one worker a GPU, or one a share of its "
        "processors. Every machine must see the images, the dump folder, the weights and this package",
    )
    add(
        "--cpus_per_worker",
        type=cli.whole_number(1, MOST_WORKERS),
        metavar="N",
        help="processors that a worker takes, and the threads that it computes with; if not given, those of this "
        "machine or those beside a GPU are divided, and a worker of another cluster takes 1",
    )
    return parser


def main(flags: argparse.Namespace, console: Console) -> None:
    """Extract the features that the flags ask for, or hash the images at once."""
    reading = Reading(flags.bands, flags.range, flags.preset)
    inference = Inference(flags.layers, flags.tiff, flags.precision, flags.views, reading=reading)
    options = ExtractOptions(
        images_dir=flags.images_dir,
        dump_dir=flags.dump_dir,
        dataset=flags.dataset,
        unlabelled=flags.unlabelled,
        batch_size=flags.batch_size,
        skip_broken=flags.on_error == "skip",
        backbone=BackboneOptions(flags.model_dir, flags.random_weights, inference),
        device=flags.device,
        shard_images=flags.shard_images,
        cluster=ClusterOptions(flags.workers, flags.address, flags.cpus_per_worker),
        training_views=flags.training_views,
    )
    if flags.hash_with is not None:
        hash_images(flags.hash_with, options, console)
    else:
        extract_features(options, console)


if __name__ == "__main__":
    cli.run(parser(), main)
