"""The layers of a backbone in OpenVINO and ONNX Runtime, in float32, to compare TensorFlow with."""

import importlib.util
import time
from collections.abc import Callable

import numpy as np

from mhcln.backbone.layers import Conv, Join, Mean, Network, Pool, pool_after_conv1x1

OPENVINO, ONNX_RUNTIME = "OpenVINO", "ONNX Runtime"
NEEDED = {OPENVINO: ("openvino",), ONNX_RUNTIME: ("onnx", "onnxruntime")}
TOLERANCE = 1e-4  # relative L2 of an image's features; float32 sums in another order differ by about 1e-6
Run = Callable[[np.ndarray], np.ndarray]


def installed(network: Network) -> dict[str, Run]:
    """What runs `network` on images [batch, height, width, 3] float32, by runtime; says which are not installed."""
    runs = {}
    for name, build in ((OPENVINO, openvino_run), (ONNX_RUNTIME, onnx_run)):
        missing = [package for package in NEEDED[name] if importlib.util.find_spec(package) is None]
        if missing:
            print(f"not measured: {name} (pip install {' '.join(missing)})")
        else:
            runs[name] = build(network)
    return runs


def check(name: str, found: np.ndarray, ours: np.ndarray) -> None:
    """Stop if another runtime computes something else: its speed would mean nothing."""
    error = (np.linalg.norm(found - ours, axis=1) / np.linalg.norm(ours, axis=1)).max()
    if not error <= TOLERANCE:
        raise SystemExit(f"{name}: features differ by {error:.2g}, more than {TOLERANCE:g}")


def in_turns(ours: Run, others: dict[str, Run], batches: list[np.ndarray]) -> dict[str, list[float]]:
    """How many times as fast `ours` is as each of the others, batch by batch, each run by all in turn."""
    for name, run in others.items():
        check(name, run(batches[0]), ours(batches[0]))
    shares: dict[str, list[float]] = {name: [] for name in others}
    for batch in batches if others else []:
        mine = seconds(ours, batch)
        for name, run in others.items():
            shares[name].append(seconds(run, batch) / mine)
    return shares


def seconds(run: Run, batch: np.ndarray) -> float:
    started = time.perf_counter()
    run(batch)
    return time.perf_counter() - started


def openvino_run(network: Network) -> Run:
    import openvino
    from openvino import opset8 as ops

    def layer(layer, values):
        if isinstance(layer, Join):
            return ops.concat([values[source] for source in layer.sources], axis=1)
        source = values[layer.source]
        if isinstance(layer, Pool):
            return pooled(source, layer)
        if isinstance(layer, Mean):
            return ops.reduce_mean(source, np.array([2, 3]), keep_dims=True)
        kernel = np.ascontiguousarray(layer.kernel.transpose(3, 2, 0, 1))
        no_pads = [0, 0]
        output = ops.convolution(source, kernel, layer.strides, no_pads, no_pads, [1, 1], auto_pad(layer))
        if layer.pool:
            output = pooled(output, layer.pool)
        output = ops.add(output, layer.bias[:, None, None])
        return ops.relu(output) if layer.relu else output

    def pooled(source, pool):
        sides = {"pads_begin": [0, 0], "pads_end": [0, 0], "kernel_shape": pool.size, "auto_pad": auto_pad(pool)}
        if pool.kind == "max":
            return ops.max_pool(source, pool.strides, dilations=[1, 1], **sides).output(0)
        return ops.avg_pool(source, pool.strides, exclude_pad=True, **sides)

    def auto_pad(layer):
        return {"SAME": "same_upper", "VALID": "valid"}[layer.padding]

    scaling = network.scaling
    images = ops.parameter([-1, *scaling.size, 3], np.float32)
    scaled = ops.multiply(ops.subtract(images, np.float32(scaling.mean)), np.float32(scaling.factor))
    values = {network.input: ops.transpose(scaled, np.array([0, 3, 1, 2]))}
    for name, each in pool_after_conv1x1(network.layers).items():
        values[name] = layer(each, values)
    output = ops.reshape(values[name], np.array([0, -1]), special_zero=True)
    model = openvino.Model([output], [images], "backbone")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}  # all cores work on one batch
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return lambda batch: compiled(batch)[0].copy()  # the next batch is written to the same memory


def onnx_run(network: Network) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_bytes(network), providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"images": batch})[0]


def onnx_bytes(network: Network) -> bytes:
    """The network as an ONNX model of `images` [batch, height, width, 3] float32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(value, name))
        return name

    def add(operation, inputs, output, **attributes):
        nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def pool(pool, source, output):
        sides = {"kernel_shape": pool.size, "strides": pool.strides, "auto_pad": auto_pad(pool)}
        if pool.kind == "max":
            return add("MaxPool", [source], output, **sides)
        return add("AveragePool", [source], output, count_include_pad=0, **sides)

    def convolution(layer, output):
        kernel = constant(f"{output}/kernel", np.ascontiguousarray(layer.kernel.transpose(3, 2, 0, 1)))
        inputs = [layer.source, kernel]
        sides = {"strides": layer.strides, "auto_pad": auto_pad(layer)}
        linear = f"{output}/linear" if layer.relu else output
        if layer.pool:
            product = pool(layer.pool, add("Conv", inputs, f"{output}/product", **sides), f"{output}/pooled")
            add("Add", [product, constant(f"{output}/bias", layer.bias[:, None, None])], linear)
        else:
            add("Conv", [*inputs, constant(f"{output}/bias", layer.bias)], linear, **sides)
        if layer.relu:
            add("Relu", [linear], output)

    def auto_pad(layer):
        return {"SAME": "SAME_UPPER", "VALID": "VALID"}[layer.padding]

    scaling = network.scaling
    centred = add("Sub", ["images", constant("mean", np.float32(scaling.mean))], "centred")
    scaled = add("Mul", [centred, constant("factor", np.float32(scaling.factor))], "scaled")
    add("Transpose", [scaled], network.input, perm=[0, 3, 1, 2])
    for name, layer in pool_after_conv1x1(network.layers).items():
        if isinstance(layer, Conv):
            convolution(layer, name)
        elif isinstance(layer, Pool):
            pool(layer, layer.source, name)
        elif isinstance(layer, Mean):
            add("ReduceMean", [layer.source, constant(f"{name}/axes", np.array([2, 3]))], name, keepdims=1)
        else:
            add("Concat", layer.sources, name, axis=1)
    add("Flatten", [name], "features", axis=1)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *scaling.size, 3])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "width"])
    graph = helper.make_graph(nodes, "backbone", [images], [features], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
