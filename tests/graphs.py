"""Small graph files in the manner of 2015: the node names and ops of classify_image_graph_def.pb, few channels."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
from PIL import Image

from mhcln.backbone.backbone import Backbone, open_backbone
from mhcln.backbone.recipe import BackboneOptions, Inference
from mhcln.quiet_tensorflow import tf

SIDE = 75
WIDTH = 12  # of pool_3


class Builder:
    """Adds nodes to a GraphDef under the names that the real file has; statistics are random and not trivial."""

    def __init__(self, seed: int, scale_after_normalization: bool) -> None:
        self.graph = tf.compat.v1.GraphDef()
        self.graph.versions.producer = 8
        self.random = np.random.default_rng(seed)
        self.scale = scale_after_normalization

    def node(self, name: str, op: str, inputs: list[str], **attributes) -> str:
        node = self.graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            if isinstance(value, list):
                node.attr[key].list.i.extend(value)
            elif isinstance(value, bool):
                node.attr[key].b = value
            elif isinstance(value, float):
                node.attr[key].f = value
            elif isinstance(value, int):
                node.attr[key].i = value
            elif isinstance(value, str):
                node.attr[key].s = value.encode()
            else:
                node.attr[key].type = value.as_datatype_enum
        return name

    def constant(self, name: str, value) -> str:
        value = np.asarray(value)
        node = self.graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        return name

    def image(self) -> str:
        self.node("DecodeJpeg/contents", "Placeholder", [], dtype=tf.string)
        self.node("DecodeJpeg", "DecodeJpeg", ["DecodeJpeg/contents"], channels=3)
        self.node("Cast", "Cast", ["DecodeJpeg"], SrcT=tf.uint8, DstT=tf.float32)
        self.constant("ExpandDims/dim", np.int32(0))
        self.node("ExpandDims", "ExpandDims", ["Cast", "ExpandDims/dim"], T=tf.float32)
        self.constant("ResizeBilinear/size", np.array([SIDE, SIDE], np.int32))
        resize = self.node("ResizeBilinear", "ResizeBilinear", ["ExpandDims", "ResizeBilinear/size"], T=tf.float32)
        self.constant("Sub/y", np.float32(128))
        self.node("Sub", "Sub", [resize, "Sub/y"], T=tf.float32)
        self.constant("Mul/y", np.float32(0.0078125))
        return self.node("Mul", "Mul", ["Sub", "Mul/y"], T=tf.float32)

    def conv(self, name: str, source: str, shape: tuple[int, int, int, int], stride: int = 1, same: bool = True) -> str:
        width = shape[3]
        padding = "SAME" if same else "VALID"
        kernel = self.random.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape)
        self.constant(f"{name}/conv2d_params", kernel.astype(np.float32))
        self.node(
            f"{name}/Conv2D",
            "Conv2D",
            [source, f"{name}/conv2d_params"],
            T=tf.float32,
            strides=[1, stride, stride, 1],
            padding=padding,
            use_cudnn_on_gpu=True,
        )
        statistics = {
            "moving_mean": self.random.normal(0, 0.2, width),
            "moving_variance": self.random.uniform(0.2, 2, width),
            "beta": self.random.normal(0.2, 0.2, width),
            "gamma": self.random.uniform(0.5, 2, width),
        }
        names = [self.constant(f"{name}/batchnorm/{key}", np.float32(v)) for key, v in statistics.items()]
        self.node(
            f"{name}/batchnorm",
            "BatchNormWithGlobalNormalization",
            [f"{name}/Conv2D", *names],
            T=tf.float32,
            variance_epsilon=0.001,
            scale_after_normalization=self.scale,
        )
        self.node(f"{name}/CheckNumerics", "CheckNumerics", [f"{name}/batchnorm"], T=tf.float32, message="x")
        waits = [f"{name}/batchnorm", f"^{name}/CheckNumerics"]
        self.node(f"{name}/control_dependency", "Identity", waits, T=tf.float32)
        return self.node(name, "Relu", [f"{name}/control_dependency"], T=tf.float32)

    def pool(self, name: str, op: str, source: str, size: int, stride: int, same: bool) -> str:
        window = {"ksize": [1, size, size, 1], "strides": [1, stride, stride, 1]}
        return self.node(name, op, [source], T=tf.float32, padding="SAME" if same else "VALID", **window)

    def join(self, name: str, sources: list[str]) -> str:
        self.constant(f"{name}/concat_dim", np.int32(3))
        return self.node(name, "Concat", [f"{name}/concat_dim", *sources], N=len(sources), T=tf.float32)


def small_graph(seed: int = 0, scale_after_normalization: bool = False) -> tf.compat.v1.GraphDef:
    """Stem, one mixed block that averages, one that max-pools, and pool_3 of 12 channels; images of 75x75."""
    build = Builder(seed, scale_after_normalization)
    stem = build.conv("conv", build.image(), (3, 3, 3, 6), stride=2, same=False)  # 37x37
    stem = build.conv("conv_1", build.pool("pool", "MaxPool", stem, 3, 2, same=False), (3, 3, 6, 8), 2, same=False)
    mixed = build.join(  # 8x8
        "mixed/join",
        [
            build.conv("mixed/conv", stem, (1, 1, 8, 4)),
            build.conv("mixed/tower/conv_1", build.conv("mixed/tower/conv", stem, (1, 1, 8, 3)), (5, 5, 3, 4)),
            build.conv(
                "mixed/tower_2/conv", build.pool("mixed/tower_2/pool", "AvgPool", stem, 3, 1, True), (1, 1, 8, 2)
            ),
        ],
    )
    last = build.join(
        "mixed_10/join",
        [
            build.conv("mixed_10/conv", mixed, (1, 1, 10, 5)),
            build.conv("mixed_10/tower/conv", mixed, (1, 3, 10, 4)),
            build.conv(
                "mixed_10/tower_2/conv",
                build.pool("mixed_10/tower_2/pool", "MaxPool", mixed, 3, 1, True),
                (1, 1, 10, 3),
            ),
        ],
    )
    build.pool("pool_3", "AvgPool", last, 8, 1, same=False)
    build.constant("pool_3/_reshape/shape", np.array([1, WIDTH], np.int32))
    build.node("pool_3/_reshape", "Reshape", ["pool_3", "pool_3/_reshape/shape"], T=tf.float32)
    return build.graph


def write_graph(folder: Path, graph: tf.compat.v1.GraphDef | None = None, zipped: bool = False) -> Path:
    """Write a graph (a small one if None) under the name that --model_dir looks for; return the file's path."""
    content = (graph or small_graph()).SerializeToString()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("classify_image_graph_def.pb" + (".gz" if zipped else ""))
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return path


def opened(model_dir: Path, **inference) -> Backbone:
    """The backbone of a file or folder, through which images pass as the fields of Inference say."""
    return open_backbone(BackboneOptions(model_dir, inference=Inference(**inference)))


def published_way(graph: tf.compat.v1.GraphDef, jpegs: list[bytes], tensor: str = "pool_3:0") -> np.ndarray:
    """pool_3 [n, width] as the published code computes it: one JPEG at a time through a version-1 session."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph, name="")
        return np.stack([np.squeeze(session.run(tensor, {"DecodeJpeg/contents:0": content})) for content in jpegs])


def random_jpeg(random: np.random.Generator, height: int, width: int) -> bytes:
    """A JPEG of smooth random colours."""
    stream = io.BytesIO()
    small = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    small.resize((width, height)).save(stream, "JPEG")
    return stream.getvalue()


def resized(backbone: Backbone, jpegs: list[bytes]) -> np.ndarray:
    """JPEGs as a batch of the backbone."""
    return np.stack([backbone.resize(tf.io.decode_jpeg(content, channels=3)) for content in jpegs])


def relative_errors(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The relative L2 error of each row."""
    return np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
