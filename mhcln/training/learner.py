"""Learning on the device: sampling, forward, backward and update of many iterations in one compiled call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import tf
from mhcln.storage.npz import AnyArray
from mhcln.training.methods import Method
from mhcln.training.samplers import BLOCK
from mhcln.training.trained import encode

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
        self, method: Method, vectors: NDArray[np.float32], labels: NDArray[np.int32], compile_with_xla: bool = False
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
        self._run = tf.function(self._run_steps, jit_compile=compile_with_xla)

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return int(self._iteration.numpy())

    def advance(self, count: int) -> float:
        """Run `count` iterations and return the loss of the last one.

        If a loss is not finite, `iteration` is then the first such iteration, counted from 1, and its loss is returned;
        the weights are of no use any more.
        """
        iteration, total = self.iteration, 0.0
        end = iteration + count
        while iteration < end and np.isfinite(total):
            steps = min(BLOCK - iteration % BLOCK, end - iteration)
            # of a whole block the number is a constant: XLA would otherwise wait for a GPU at each iteration to ask
            # whether there is another
            total = float(self._run(steps if steps == BLOCK else tf.constant(steps)).numpy())
            iteration += steps
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

    def _run_steps(self, count: int | tf.Tensor) -> tf.Tensor:
        """Run `count` iterations within a block of the sampler; return the last total, or the first bad one."""
        begin = self._iteration.read_value()
        batches = self.method.sample(begin // BLOCK)
        first = tf.cast(begin % BLOCK, tf.int32)

        def step(done: tf.Tensor, iteration: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            found = self._learn(begin + tf.cast(done, tf.int64), batches[first + done])
            good = tf.math.is_finite(total)
            return done + 1, iteration + tf.cast(good, tf.int64), tf.where(good, found, total)

        _, iteration, total = tf.while_loop(
            lambda done, _iteration, _total: done < count, step, (0, begin, 0.0), parallel_iterations=1
        )
        self._iteration.assign(iteration)
        return total

    def _learn(self, iteration: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Learn from one batch; return its total."""
        with tf.GradientTape() as tape:
            outputs = self.method.forward(tf.gather(self._vectors, rows), iteration)
            terms = self.method.loss(outputs, tf.gather(self._labels, rows))
        gradients = tape.gradient(terms["total"], self._weights)
        adam, count = self.method.adam, tf.cast(iteration + 1, tf.float32)
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
        self._sums.assign_add(tf.stack([terms[name] for name in self.method.terms]))
        return terms["total"]
