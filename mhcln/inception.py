"""The pretrained Inception-v3 as one batched function: images in, [batch, 2048] pool_3 (or other layers) out."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mhcln.cli import Console
from mhcln.errors import UserError
from mhcln.files import sha256_of
from mhcln.graph import read_graph
from mhcln.keras_weights import IMAGENET, imagenet_file, is_weights, random_network, read_weights
from mhcln.layers import Conv, Layer, Mean, Network, Pool, Scaling, answering, averaged_late, sources
from mhcln.runtime import tf

GRAPHS = ("classify_image_graph_def.pb", "classify_image_graph_def.pb.gz")
PAPER = "inception-2015-12-05"
POOL_3 = ("pool_3",)  # the paper's layer: the mean of the last block over space
PRECISIONS = ("float32", "bfloat16", "float16")
TIFF_STEPS = ("jpeg", "pixels")
VIEWS = (1, 8)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A feature extractor and everything that its features depend on.

    `identity` names it with its file's SHA-256 or its seed, `model_file` is that file ("" for random weights).
    """

    identity: str
    model_file: str
    scaling: Scaling
    network: Callable[["tf.Tensor"], "tf.Tensor"]
    tiff: str
    precision: str
    views: int

    @property
    def extractor(self) -> str:
        """What `features.npz` records: enough to say whether two features may be compared."""
        tiff = "jpeg100" if self.tiff == "jpeg" else self.tiff
        return f"{self.identity}; tiff={tiff}; precision={self.precision}; views={self.views}"

    def resize(self, image: "tf.Tensor") -> "tf.Tensor":
        """One image [height, width, 3] uint8 of any size in the network's size, [299, 299, 3] float32, 0 to 255."""
        return resized(image, self.scaling)

    def features(self, images: "tf.Tensor | np.ndarray") -> np.ndarray:
        """Features [batch, d] float32, averaged over the views, of resized images [batch, 299, 299, 3] float32."""
        batch = tf.convert_to_tensor(images)
        total = self.network(batch)
        for view in range(1, self.views):
            total += self.network(turned(batch, view))
        return (total / self.views).numpy()


def resized(image: "tf.Tensor", scaling: Scaling) -> "tf.Tensor":
    """Bilinear resize of one image [height, width, 3] uint8 to [299, 299, 3] float32, 0 to 255.

    tf.image.resize would place samples at pixel centres, which moves the 2015 graph's pool_3 by about 0.5 %.
    """
    with tf.device("CPU"):
        return tf.raw_ops.ResizeBilinear(
            images=image[None], size=scaling.size, align_corners=False, half_pixel_centers=scaling.half_pixel
        )[0]


def turned(images: "tf.Tensor", view: int) -> "tf.Tensor":
    """View 0 to 7 of square images [batch, side, side, 3]: `view` % 4 quarter turns, mirrored first from 4 on."""
    if view >= 4:
        images = images[:, :, ::-1]
    return tf.image.rot90(images, view % 4)


def compiled(network: Network, precision: str) -> Callable[["tf.Tensor"], "tf.Tensor"]:
    """The network as one TF2 function of [batch, 299, 299, 3] float32, 0 to 255, its weights frozen into it.

    Convolutions run in `precision`; averages over space and the answer are float32. Raises UserError where a layer
    cannot read what the layers before it give.
    """
    dtype = tf.dtypes.as_dtype(precision)
    scaling, layers = network.scaling, averaged_late(network.layers)

    @tf.function(input_signature=[tf.TensorSpec([None, *scaling.size, 3], tf.float32)], autograph=False)
    def run(images: "tf.Tensor") -> "tf.Tensor":
        values = {network.input: tf.cast((images - scaling.mean) * scaling.factor, dtype)}
        *inner, last = layers
        for name in inner:
            values[name] = _apply(layers[name], values)
        final = layers[last]
        values |= {source: tf.cast(values[source], tf.float32) for source in sources(final)}
        answer = _apply(final, values)
        return tf.reshape(answer, [-1, answer.shape[1] * answer.shape[2] * answer.shape[3]])

    try:
        run.get_concrete_function()
    except ValueError as error:
        what = " ".join(str(error).split())[:200]
        raise UserError(f"the layers of the network do not fit each other ({what}); take another file") from error
    return run


def _apply(layer: Layer, values: dict[str, "tf.Tensor"]) -> "tf.Tensor":
    if isinstance(layer, Conv):
        image = values[layer.source]
        image = tf.nn.conv2d(image, tf.constant(layer.kernel, image.dtype), layer.strides, layer.padding)
        if layer.pool:
            image = _pooled(image, layer.pool)
        image = tf.nn.bias_add(image, tf.constant(layer.bias, image.dtype))
        return tf.nn.relu(image) if layer.relu else image
    if isinstance(layer, Pool):
        return _pooled(values[layer.source], layer)
    if isinstance(layer, Mean):
        return tf.reduce_mean(tf.cast(values[layer.source], tf.float32), axis=(1, 2), keepdims=True)
    return tf.concat([values[source] for source in layer.sources], axis=3)


def _pooled(image: "tf.Tensor", pool: Pool) -> "tf.Tensor":
    pooled = tf.nn.max_pool2d if pool.kind == "max" else tf.nn.avg_pool2d
    return pooled(image, pool.size, pool.strides, pool.padding)


def open_backbone(
    console: Console,
    model_dir: Path | None,
    random_seed: int | None = None,
    tiff: str | None = None,
    precision: str = "float32",
    views: int = 1,
    layers: tuple[str, ...] = POOL_3,
) -> Backbone:
    """The backbone in `model_dir`; without one Keras's ImageNet weights, or random weights where a seed is given.

    `tiff` None means the published JPEG step for the paper's graph, plain pixels for any other. `layers` names the
    blocks whose means over space are the features. Raises UserError where the folder holds no backbone, or more than
    one, or it has no such layers.
    """
    named = "+".join(layers)
    if random_seed is not None:
        if model_dir is not None:
            raise UserError("--random_weights and --model_dir exclude each other; give one of them")
        path, network = None, random_network(random_seed)
        identity = f"random-inception-v3 {named}; seed={random_seed}"
    else:
        path = imagenet_file(console) if model_dir is None else weights_file(model_dir)
        is_graph = not is_weights(path.name)
        network = read_graph(path) if is_graph else read_weights(path)
        family = PAPER if is_graph else "keras-inception-v3"
        identity = f"{family} {named}; sha256={sha256_of(path)}"
    if layers != POOL_3:
        network = answering(network, layers)
    return Backbone(
        identity=identity,
        model_file="" if path is None else str(path.resolve()),
        scaling=network.scaling,
        network=compiled(network, precision),
        tiff=tiff or ("jpeg" if identity.startswith(PAPER) else "pixels"),
        precision=precision,
        views=views,
    )


def weights_file(model_dir: Path) -> Path:
    """The one backbone file in `model_dir` (or that file itself); raises UserError where there is none or several."""
    if model_dir.is_file():
        return model_dir
    if not model_dir.is_dir():
        raise UserError(f"--model_dir {model_dir} does not exist; give the folder that holds {GRAPHS[0]}")
    found = sorted(path for path in model_dir.iterdir() if path.name in GRAPHS or is_weights(path.name))
    if not found:
        raise UserError(
            f"--model_dir {model_dir} holds no backbone; put {GRAPHS[0]} (or .pb.gz), {IMAGENET}, "
            "or a .weights.h5 or .keras file of InceptionV3 there"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"--model_dir {model_dir} holds several backbones ({names}); leave one there")
    return found[0]


def backbone_for(console: Console, extractor: str, model_file: str, model_dir: Path | None) -> Backbone:
    """Reopen the backbone that `extractor` records, from where it was or from `model_dir`.

    Raises UserError where the file is gone or its SHA-256 is another than the recorded one.
    """
    name, *pairs = extractor.split("; ")
    options = dict(pair.partition("=")[::2] for pair in pairs)
    try:
        tiff = "jpeg" if options["tiff"] == "jpeg100" else options["tiff"]
        precision, views = options["precision"], int(options["views"])
        layers = tuple(name.split(" ")[1].split("+"))
        seed = int(options["seed"]) if "seed" in options else None
        digest = options.get("sha256", "")
        known = tiff in TIFF_STEPS and precision in PRECISIONS and views in VIEWS
    except (IndexError, KeyError, ValueError):
        known = False
    if not known:
        raise UserError(
            f"features.npz was made by {extractor!r}, which this version cannot reopen; extract the features again"
        )
    if seed is not None:
        return open_backbone(console, None, seed, tiff, precision, views, layers)
    path = weights_file(model_dir) if model_dir is not None else Path(model_file)
    if not path.is_file():
        raise UserError(f"the backbone {path} of the archive is gone; give its folder as --model_dir")
    if sha256_of(path) != digest:
        raise UserError(
            f"{path} is not the backbone that made the archive ({name}, SHA-256 {digest[:12]}...); "
            "give the folder of that file as --model_dir"
        )
    return open_backbone(console, path, None, tiff, precision, views, layers)
