"""The layers of a network as one TensorFlow function, and the rotations of an image."""

from __future__ import annotations

from collections.abc import Callable

from mhcln import device
from mhcln.backbone.layers import Conv, Layer, Mean, Network, Pool, pool_after_conv1x1, sources
from mhcln.console import UserError
from mhcln.quiet_tensorflow import tf
from mhcln.storage.files import one_line


def rotated(images: tf.Tensor, rotation: int) -> tf.Tensor:
    """Return rotation 0 to 7 of square images [batch, side, side, 3].

    It is `rotation` % 4 quarter turns; from 4 on, the images are mirrored first.
    """
    if rotation >= 4:
        images = images[:, :, ::-1]
    return tf.image.rot90(images, rotation % 4) if rotation % 4 else images


def compiled(network: Network, precision: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the network as one TF2 function of [batch, 299, 299, 3] float32, 0 to 255, its weights frozen into it.

    Convolutions run in `precision`; averages over space and the output are float32.
    """
    tf32 = precision == "tf32"
    dtype = tf.dtypes.as_dtype("float32" if tf32 else precision)
    round_to_tf32 = tf32 and not device.has_tf32()
    scaling, layers = network.scaling, pool_after_conv1x1(network.layers)

    @tf.function(input_signature=[tf.TensorSpec([None, *scaling.size, 3], tf.float32)], autograph=False)
    def run(images: tf.Tensor) -> tf.Tensor:
        values = {network.input: tf.cast((images - scaling.mean) * scaling.factor, dtype)}
        *inner, last = layers
        for name in inner:
            values[name] = _apply(layers[name], values, round_to_tf32)
        final = layers[last]
        values |= {source: tf.cast(values[source], tf.float32) for source in sources(final)}
        output = _apply(final, values, round_to_tf32)
        return tf.reshape(output, [-1, output.shape[1] * output.shape[2] * output.shape[3]])

    try:
        run.get_concrete_function()
    except (ValueError, KeyError) as error:
        what = one_line(error)
        raise UserError(f"the layers of the network do not fit each other ({what}); take another file") from error

    def run_on_device(images: tf.Tensor) -> tf.Tensor:
        with device.tf32(tf32):
            return run(images)

    return run_on_device


def rounded_to_tf32(values: tf.Tensor) -> tf.Tensor:
    """Return float32 values rounded to the 10 bits behind the point that TF32 keeps, halves to even.

    1 + 2^-11 lies halfway between 1 and 1 + 2^-10 and becomes 1, 1 + 3 * 2^-11 becomes 1 + 2^-9.
    """
    bits = tf.bitcast(values, tf.int32)
    odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, 13), 1)
    return tf.bitcast(tf.bitwise.bitwise_and(bits + 0xFFF + odd, ~0x1FFF), tf.float32)


def _apply(layer: Layer, values: dict[str, tf.Tensor], round_to_tf32: bool) -> tf.Tensor:
    """Return what a layer computes from `values`; a convolution rounds them to TF32 where the device does not."""
    if isinstance(layer, Conv):
        image = values[layer.source]
        kernel = tf.constant(layer.kernel, image.dtype)
        if round_to_tf32:
            image, kernel = rounded_to_tf32(image), rounded_to_tf32(kernel)
        image = tf.nn.conv2d(image, kernel, layer.strides, layer.padding)
        if layer.pool:
            image = _pooled(image, layer.pool)
        image = tf.nn.bias_add(image, tf.constant(layer.bias, image.dtype))
        return tf.nn.relu(image) if layer.relu else image
    if isinstance(layer, Pool):
        return _pooled(values[layer.source], layer)
    if isinstance(layer, Mean):
        return tf.reduce_mean(tf.cast(values[layer.source], tf.float32), axis=(1, 2), keepdims=True)
    return tf.concat([values[source] for source in layer.sources], axis=3)


def _pooled(image: tf.Tensor, pool: Pool) -> tf.Tensor:
    pooled = tf.nn.max_pool2d if pool.kind == "max" else tf.nn.avg_pool2d
    return pooled(image, pool.size, pool.strides, pool.padding)
