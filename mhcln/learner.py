"""Learning on the device: sampling, forward, backward and update of many iterations in one compiled call."""

import numpy as np

from mhcln.hamming import binarise, pack
from mhcln.methods import Method
from mhcln.runtime import keras, tf
from mhcln.sampling import BLOCK

ROWS_PER_CALL = 4096  # images hashed at a time
LARGE_FEATURE = 1e6  # pooled activations of Inception stay below about 10


class Learner:
    """A method, the training images on the device, and all that changes while it learns.

    `features` [n, d] float32 and `labels` [n] int32 are those of the training images. All state lives in variables,
    the number of the iteration and the running sums of the history among them: how many iterations one call runs
    changes nothing, and `state` with `restore` continues as if never stopped.
    """

    def __init__(self, method: Method, features: np.ndarray, labels: np.ndarray) -> None:
        self.method = method
        self._features = tf.convert_to_tensor(features)
        self._labels = tf.convert_to_tensor(labels, tf.int32)
        weights = [variable.value for variable in method.trained.trainable_variables]
        self._weights = [(w, tf.Variable(tf.zeros_like(w)), tf.Variable(tf.zeros_like(w))) for w in weights]
        self._iteration = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._sums = tf.Variable(tf.zeros(len(method.terms)), trainable=False)
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        # On a GPU the loop is bound by dispatch, which XLA's fusing cuts; on a CPU it measured no gain.
        self._advance = tf.function(self._run, jit_compile=on_gpu, reduce_retracing=True)

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return int(self._iteration.numpy())

    def advance(self, count: int) -> float:
        """Run `count` iterations, fewer where the loss stops being finite; answer the last iteration's loss."""
        return float(self._advance(tf.constant(count, tf.int64)).numpy())

    def take_means(self, count: int) -> list[float]:
        """Means of the method's terms over the last `count` iterations since this was asked."""
        means = self._sums.numpy().astype(np.float64) / count
        self._sums.assign(tf.zeros_like(self._sums))
        return means.tolist()

    def codes(self) -> np.ndarray:
        """Packed codes [n, ceil(K / 8)] uint8 of the training images as the network is now."""
        return pack(binarise(activations(self.method.network, self._features)))

    def cause(self) -> str:
        """Why the loss may have stopped being finite."""
        largest = float(tf.reduce_max(tf.abs(self._features)).numpy())
        if largest > LARGE_FEATURE:
            return f"the features reach {largest:.3g}, far above the usual 10; extract them again"
        return f"the weights grew too large (the features are fine, at most {largest:.3g}); try another seed"

    def state(self) -> dict[str, np.ndarray]:
        """All that a later process needs to continue, by name."""
        return {name: variable.numpy() for name, variable in self._named().items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take over what `state` answered; raises KeyError or ValueError where it is of another network."""
        for name, variable in self._named().items():
            variable.assign(state[name])

    def _named(self) -> dict[str, tf.Variable]:
        named = {"iteration": self._iteration, "sums": self._sums}
        for number, variable in enumerate(self.method.trained.variables):
            named[f"variable_{number}"] = variable.value
        for number, (_, first, second) in enumerate(self._weights):
            named[f"first_moment_{number}"], named[f"second_moment_{number}"] = first, second
        return named

    def _run(self, count: tf.Tensor) -> tf.Tensor:
        end = self._iteration + count

        def goes_on(iteration: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
            return tf.logical_and(iteration < end, tf.math.is_finite(total))

        def block(iteration: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            number = iteration // BLOCK
            batches, first = self.method.sample(number), number * BLOCK

            def step(iteration: tf.Tensor, _total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return iteration + 1, self._step(iteration, batches[iteration - first])

            def within(iteration: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
                return tf.logical_and(iteration < first + BLOCK, goes_on(iteration, total))

            return tf.while_loop(within, step, (iteration, total), parallel_iterations=1)

        start = (self._iteration.read_value(), tf.constant(0.0))
        iteration, total = tf.while_loop(goes_on, block, start, parallel_iterations=1)
        self._iteration.assign(iteration)
        return total

    def _step(self, iteration: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = self.method.trained(tf.gather(self._features, rows), training=True)
            terms = self.method.loss(outputs, tf.gather(self._labels, rows))
        gradients = tape.gradient(terms["total"], [weight for weight, _, _ in self._weights])
        self._update(iteration, gradients)
        self._sums.assign_add(tf.stack([terms[name] for name in self.method.terms]))
        return terms["total"]

    def _update(self, iteration: tf.Tensor, gradients: list[tf.Tensor]) -> None:
        adam = self.method.adam
        count = tf.cast(iteration + 1, tf.float32)
        for (weight, first, second), gradient in zip(self._weights, gradients, strict=True):
            # the fused kernel passes over each weight once; the arithmetic is that of TensorFlow 1's AdamOptimizer
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=adam.beta_1**count,
                beta2_power=adam.beta_2**count,
                lr=adam.rate(iteration),
                beta1=adam.beta_1,
                beta2=adam.beta_2,
                epsilon=adam.epsilon,
                grad=gradient,
            )


def activations(network: keras.Model, features: tf.Tensor | np.ndarray) -> np.ndarray:
    """Activations [n, K] float32 of `features` [n, d] as the trained network makes them for use."""
    blocks = [
        network(tf.convert_to_tensor(features[start : start + ROWS_PER_CALL]), training=False).numpy()
        for start in range(0, len(features), ROWS_PER_CALL)
    ]
    return np.concatenate(blocks)
