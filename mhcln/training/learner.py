"""Learning on the device: sampling, forward, backward and update of many iterations in one compiled call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mhcln.hamming.codes import binarise, pack
from mhcln.quiet_tensorflow import keras, tf
from mhcln.storage.mapped import Vectors
from mhcln.storage.npz import AnyArray
from mhcln.training.methods import Method
from mhcln.training.samplers import BLOCK

ROWS_PER_CALL = 4096  # images hashed at a time
LARGE_FEATURE = 1e6  # pooled activations of Inception stay below about 10


class Learner:
    """A method, the training images on the device, and everything that changes while it learns.

    All state is in variables, among them the number of the iteration and the running sums of the history: how many
    iterations one call runs changes nothing, and after `state` and `restore` training continues as if never stopped.

    Attributes:
        method: The method.
        labels: `[n] int32`, class of each training image.
    """

    def __init__(
        self,
        method: Method,
        vectors: NDArray[np.float32],
        labels: NDArray[np.int32],
        compile_with_xla: bool = False,
    ) -> None:
        """Put the training images on the device and prepare the first iteration.

        Args:
            method: The method.
            vectors: `[n, d] float32`, features of the training images.
            labels: `[n] int32`, their classes.
            compile_with_xla: Whether XLA fuses the operations. On a GPU, where launching them takes most of the time,
                that pays; on a processor it measured no gain. It changes no batch and no mask, only rounding.
        """
        self.method, self.labels = method, labels
        self._vectors = tf.convert_to_tensor(vectors)
        self._labels = tf.convert_to_tensor(labels, tf.int32)
        self._weights = [variable.value for variable in (*method.network.trainable_variables, *method.unsaved)]
        self._first_moments = [tf.Variable(tf.zeros_like(weight)) for weight in self._weights]
        self._second_moments = [tf.Variable(tf.zeros_like(weight)) for weight in self._weights]
        self._iteration = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._sums = tf.Variable(tf.zeros(len(method.terms)), trainable=False)
        self._whole_blocks = tf.function(self._run_blocks, jit_compile=compile_with_xla)
        self._part_of_block = tf.function(self._run_part, jit_compile=compile_with_xla)

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return int(self._iteration.numpy())

    def advance(self, count: int) -> float:
        """Run `count` iterations and return the loss of the last one.

        If a loss is not finite, `iteration` is then the first such iteration, counted from 1, and its loss is returned;
        the weights are of no use any more.
        """
        begin = min(-self.iteration % BLOCK, count)
        blocks, end = divmod(count - begin, BLOCK)
        total = 0.0
        for run, length in ((self._part_of_block, begin), (self._whole_blocks, blocks), (self._part_of_block, end)):
            if length and np.isfinite(total):
                total = float(run(tf.constant(length, tf.int64)).numpy())
        return total

    def take_means(self, count: int) -> list[float]:
        """Return the means of the method's terms over the last `count` iterations, all since the last such call."""
        means = self._sums.numpy().astype(np.float64) / count
        self._sums.assign(tf.zeros_like(self._sums))
        return means.tolist()

    def codes(self) -> NDArray[np.uint8]:
        """Return packed codes `[n, ceil(K / 8)] uint8` of the training images as the network is now."""
        return encode(self.method.network, self._vectors)

    def explain_divergence(self) -> str:
        """Return why the loss may have stopped being finite, and what to do."""
        largest = float(tf.reduce_max(tf.abs(self._vectors)).numpy())
        if largest > LARGE_FEATURE:
            return f"the features reach {largest:.3g}, far above the usual 10; extract them again"
        return f"the weights grew too large (the features are fine, at most {largest:.3g}); try another seed"

    def state(self) -> dict[str, AnyArray]:
        """Return everything that a later process needs to continue, by name."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Take over what `state` returned; raises KeyError or ValueError if it is that of another network."""
        for name, variable in self._variables().items():
            variable.assign(state[name])

    def _variables(self) -> dict[str, tf.Variable]:
        # checkpoints hold these names
        lists = {
            "variable": [variable.value for variable in (*self.method.network.variables, *self.method.unsaved)],
            "first_moment": self._first_moments,
            "second_moment": self._second_moments,
        }
        numbered = {f"{name}_{number}": v for name, values in lists.items() for number, v in enumerate(values)}
        return {"iteration": self._iteration, "sums": self._sums, **numbered}

    def _run_blocks(self, count: tf.Tensor) -> tf.Tensor:
        """Run `count` whole blocks of the sampler, from the border of one; return the last or first bad total.

        The number of iterations is a constant here: on a GPU, XLA would otherwise wait for the device at each of them
        to ask whether there is another. So that is asked once a block, and so is whether the loss is still finite.
        """
        end = self._iteration + count * BLOCK

        def goes_on(iteration: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
            return tf.logical_and(iteration < end, tf.math.is_finite(total))

        def run_block(iteration: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self._run_steps(iteration, total, BLOCK)

        start = (self._iteration.read_value(), tf.constant(0.0))
        return self._finish(*tf.while_loop(goes_on, run_block, start, parallel_iterations=1))

    def _run_part(self, count: tf.Tensor) -> tf.Tensor:
        """Run `count` iterations within one block; return the last or first bad total."""
        return self._finish(*self._run_steps(self._iteration.read_value(), tf.constant(0.0), tf.cast(count, tf.int32)))

    def _run_steps(self, begin: tf.Tensor, total: tf.Tensor, count: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Run `count` iterations of one block, the first of them number `begin`.

        Returns:
            Iterations done, up to the first whose total is not finite, and the total of the last of these.
        """
        batches = self.method.sample(begin // BLOCK)
        first = tf.cast(begin % BLOCK, tf.int32)

        def step(done: tf.Tensor, iteration: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            found = self._step(begin + tf.cast(done, tf.int64), batches[first + done])
            good = tf.math.is_finite(total)
            return done + 1, iteration + tf.cast(good, tf.int64), tf.where(good, found, total)

        _, iteration, total = tf.while_loop(
            lambda done, _iteration, _total: done < count, step, (0, begin, total), parallel_iterations=1
        )
        return iteration, total

    def _finish(self, iteration: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        self._iteration.assign(iteration)
        return total

    def _step(self, iteration: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Learn from one batch; return its total."""
        with tf.GradientTape() as tape:
            outputs = self.method.forward(tf.gather(self._vectors, rows), iteration)
            terms = self.method.loss(outputs, tf.gather(self._labels, rows))
        gradients = tape.gradient(terms["total"], self._weights)
        self._update(iteration, gradients)
        self._sums.assign_add(tf.stack([terms[name] for name in self.method.terms]))
        return terms["total"]

    def _update(self, iteration: tf.Tensor, gradients: list[tf.Tensor]) -> None:
        adam = self.method.adam
        count = tf.cast(iteration + 1, tf.float32)
        states = zip(self._weights, self._first_moments, self._second_moments, gradients, strict=True)
        for weight, first_moment, second_moment, gradient in states:
            # the fused kernel passes over each weight once; the arithmetic is that of TensorFlow 1's AdamOptimizer
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=first_moment.handle,
                v=second_moment.handle,
                beta1_power=adam.beta_1**count,
                beta2_power=adam.beta_2**count,
                lr=adam.rate(iteration),
                beta1=adam.beta_1,
                beta2=adam.beta_2,
                epsilon=adam.epsilon,
                grad=gradient,
            )


def activations(
    network: keras.Model, vectors: tf.Tensor | Vectors, rows: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Return the activations `[m, K] float32` of vectors, computed as the trained network is used.

    Args:
        network: The network.
        vectors: `[n, d]`, of which a few are in memory at a time if they stay in their files.
        rows: `[m]`, which of them; None for all.
    """
    count = len(vectors) if rows is None else len(rows)
    blocks = []
    for start in range(0, count or 1, ROWS_PER_CALL):  # once for no vector, which gives [0, K]
        block = slice(start, start + ROWS_PER_CALL)
        some = vectors[block] if rows is None else vectors[rows[block]]
        blocks.append(network(tf.convert_to_tensor(some), training=False).numpy())
    return np.concatenate(blocks)


def encode(network: keras.Model, vectors: tf.Tensor | NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the packed codes `[n, ceil(K / 8)] uint8` of vectors `[n, d]`."""
    return pack(binarise(activations(network, vectors)))
