"""Random numbers while training: functions of a seed and a counter, the same on every device, with or without XLA."""

from __future__ import annotations

from mhcln.quiet_tensorflow import tf


def integers(shape: tuple[int, ...], seed: int, counter: tf.Tensor, below: int | None = None) -> tf.Tensor:
    """Draw uniform integers.

    Integers, since XLA makes other floats of the same random bits than TensorFlow's own kernels do: no batch and no
    mask may depend on how the training is compiled.

    Args:
        shape: Shape of the result.
        seed: Seed of the run.
        counter: int64 scalar; each counter has a stream of its own. Blocks of batches take 0 and above, dropout masks
            take -1 and below.
        below: What the integers are smaller than, beginning at 0; None for all values of int32.

    Returns:
        `shape int32`.
    """
    key = tf.stack([tf.constant(seed, tf.int64), counter])
    least = None if below is None else 0
    return tf.random.stateless_uniform(shape, key, least, below, dtype=tf.int32, alg="philox")


def dropout_mask(shape: tuple[int, ...], rate: float, seed: int, iteration: tf.Tensor, dtype: str) -> tf.Tensor:
    """Draw what hidden values are multiplied by in an iteration: 0 for a share `rate`, 1 / (1 - rate) for the others.

    A value is kept if its integer is `rate * 2^32` or more above the smallest of the 2^32 values of int32, so that the
    share is exact to 2^-33.

    Args:
        shape: Shape of the mask.
        rate: Share that is dropped, from 0 to below 1.
        seed: Seed of the run.
        iteration: int64 scalar, from 0.
        dtype: Type of the hidden values.

    Returns:
        `shape` of `dtype`.
    """
    kept = integers(shape, seed, -1 - iteration) >= tf.int32.min + round(rate * 2**32)
    return tf.cast(kept, dtype) * tf.constant(1.0 / (1.0 - rate), dtype)
