"""How fast training is: ours beside the published loop and Keras, and how far from what the machine can do.

python tests/benchmarks/training.py [--features=features.npz] [--rounds=7]

Every side trains the published network with the published loss on batches of 90, one after another in each round; the
numbers are medians over the rounds. The published loop runs under TensorFlow's version-1 interface as the published
code does: two classes drawn and their rows gathered in NumPy, fed through feed_dict to 1x1 convolutions, the loss
fetched each iteration. If no file is given, the features are made up: 2,048 floats of 21 classes with 60 training
images.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mhcln.data import splits
from mhcln.quiet_tensorflow import keras, tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.learner import Learner
from mhcln.training.methods import METHODS
from mhcln.training.methods.mhcln import mhcln_terms
from mhcln.training.networks import published_network
from mhcln.training.trained import encode
from mhcln.training.validation import mean_average_precision

v1 = tf.compat.v1
WIDTH, BITS, BATCH, ALPHA, CLASSES, PER_CLASS = 2048, 32, 90, 0.2, 21, 60
# Multiplications and additions of forward and weight gradients of three layers, and input gradients of two.
WEIGHTS = WIDTH * 1024 + 1024 * 512 + 512 * BITS
PRODUCTS = 2 * BATCH * (3 * WEIGHTS - WIDTH * 1024)
ADAM_BYTES = 4 * 7 * WEIGHTS  # reads weight, two moments and gradient, writes the first three
PUBLISHED, KERAS = "the published loop, version-1 session", "Keras train_on_batch"
MATRIX, ADAM = "floor: matrix products", "floor: Adam's update"
GOAL = 0.90
Runner = Callable[[int], None]


def gathered(features: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A batch as UCMD/trainer.py:48-71 makes it: rows of two classes, shuffled, stacked in NumPy."""
    positive, negative = rng.permutation(CLASSES)[:2]
    own, other = (rng.permutation(np.flatnonzero(labels == c)) for c in (positive, negative))
    return np.concatenate([features[own[:30]], features[own[30:60]], features[other[:30]]])


def published(features: np.ndarray, labels: np.ndarray) -> Runner:
    """The published loop: session.run with feed_dict, 1x1 convolutions, version-1 Adam."""
    weights = published_network(WIDTH, BITS, 0).get_weights()
    graph = tf.Graph()
    with graph.as_default():
        fed = v1.placeholder(tf.float32, [None, WIDTH])
        hidden = tf.reshape(fed, [-1, 1, 1, WIDTH])
        for layer in range(3):
            kernel = v1.Variable(weights[2 * layer][None, None])
            hidden = tf.nn.bias_add(tf.nn.conv2d(hidden, kernel, 1, "SAME"), v1.Variable(weights[2 * layer + 1]))
            hidden = tf.nn.leaky_relu(hidden, 0.2) if layer < 2 else tf.sigmoid(hidden)
        loss = mhcln_terms(tf.reshape(hidden, [-1, BITS]), ALPHA)["total"]
        update = v1.train.AdamOptimizer(1e-4, 0.5, 0.9).minimize(loss)
        initialise = v1.global_variables_initializer()
    session = v1.Session(graph=graph)
    session.run(initialise)
    rng = np.random.default_rng(0)

    def run(count: int) -> None:
        for _ in range(count):
            session.run([loss, update], {fed: gathered(features, labels, rng)})

    return run


def keras_train_on_batch(features: np.ndarray, labels: np.ndarray) -> Runner:
    """Keras's own loop: the same network and loss, compiled, batches from NumPy."""
    network = published_network(WIDTH, BITS, 0)
    network.compile(
        optimizer=keras.optimizers.Adam(1e-4, beta_1=0.5, beta_2=0.9, epsilon=1e-8),
        loss=lambda _labels, outputs: mhcln_terms(outputs, ALPHA)["total"],
    )
    rng, nothing = np.random.default_rng(0), np.zeros(BATCH, np.float32)

    def run(count: int) -> None:
        for _ in range(count):
            network.train_on_batch(gathered(features, labels, rng), nothing)

    return run


def ours(features: np.ndarray, labels: np.ndarray) -> Runner:
    """The learner, as trainer.py runs it."""
    learner = published_learner(features, labels)
    return lambda count: learner.advance(count)


def published_learner(features: np.ndarray, labels: np.ndarray) -> Learner:
    """The learner of the published method with its default settings."""
    config = TrainConfig(bits=BITS, alpha=ALPHA, batch_size=BATCH, iterations=10_000, seed=0)
    return Learner(METHODS["mhcln"].build(config, labels, WIDTH), features, labels)


def floor_products() -> Runner:
    """The eight matrix products of a step alone, back to back: forward, weight gradients, two input gradients."""
    sizes = [(WIDTH, 1024), (1024, 512), (512, BITS)]
    inputs = [tf.random.normal([BATCH, rows]) for rows, _ in sizes]
    kernels = [tf.random.normal(size) for size in sizes]
    slopes = [tf.random.normal([BATCH, columns]) for _, columns in sizes]

    @tf.function
    def run(count: tf.Tensor) -> tf.Tensor:
        def step(done: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scaled = [entry * scale for entry in inputs]  # keeps the products inside the loop
            products = [tf.matmul(x, kernel) for x, kernel in zip(scaled, kernels, strict=True)]
            products += [tf.matmul(x, slope, transpose_a=True) for x, slope in zip(scaled, slopes, strict=True)]
            products += [
                tf.matmul(slope * scale, kernel, transpose_b=True)
                for slope, kernel in zip(slopes[1:], kernels[1:], strict=True)
            ]
            return done + 1, scale + 1e-30 * tf.add_n([product[0, 0] for product in products])

        return tf.while_loop(lambda done, _: done < count, step, (0, tf.constant(1.0)), parallel_iterations=1)[1]

    return lambda count: run(tf.constant(count)).numpy()


def floor_adam() -> Runner:
    """The Adam update alone: it reads weight, two moments and gradient, and writes the first three."""
    shapes = [(WIDTH, 1024), (1024, 512), (512, BITS)]
    state = [[tf.Variable(tf.random.normal(shape)) for shape in shapes] for _ in range(3)]
    for moment in state[2]:
        moment.assign(tf.abs(moment))
    gradients = [tf.random.normal(shape) for shape in shapes]

    @tf.function
    def run(count: tf.Tensor) -> None:
        for _ in tf.range(count):
            for weight, first, second, gradient in zip(*state, gradients, strict=True):
                tf.raw_ops.ResourceApplyAdam(
                    var=weight.handle,
                    m=first.handle,
                    v=second.handle,
                    beta1_power=0.5,
                    beta2_power=0.9,
                    lr=1e-4,
                    beta1=0.5,
                    beta2=0.9,
                    epsilon=1e-8,
                    grad=gradient,
                )

    return lambda count: run(tf.constant(count))


def medians(sides: dict[str, Runner], rounds: int, count: int) -> dict[str, float]:
    """Median milliseconds an iteration of each side, all sides one after another in every round."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        run(5)
    for _ in range(rounds):
        for name, run in sides.items():
            began = time.perf_counter()
            run(count)
            times[name].append((time.perf_counter() - began) / count * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure all sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, help="a features.npz with 21 classes of at least 60 images")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=60, help="iterations of each side in a round")
    flags = parser.parse_args()
    features, labels = training_images(flags.features)
    sides = {
        PUBLISHED: published(features, labels),
        KERAS: keras_train_on_batch(features, labels),
        "ours": ours(features, labels),
        MATRIX: floor_products(),
        ADAM: floor_adam(),
    }
    ms = medians(sides, flags.rounds, flags.count)
    own = ms["ours"]
    print("Side | ms an iteration | Iterations a second | Times ours\n--- | ---: | ---: | ---:")
    for name, value in ms.items():
        print(f"{name} | {value:.2f} | {1e3 / value:.0f} | {value / own:.2f}")
    print(
        f"\nThe products of a step are {PRODUCTS / 1e9:.2f} GFLOP, done at {PRODUCTS / ms[MATRIX] / 1e6:.0f} GFLOP/s; "
        f"Adam moves {ADAM_BYTES / 1e6:.0f} MB at {ADAM_BYTES / ms[ADAM] / 1e6:.0f} GB/s. "
        f"Ours is {own / (ms[MATRIX] + ms[ADAM]):.2f} times the two together."
    )
    for name, wanted in ((PUBLISHED, 3.0), (KERAS, 1.3)):
        verdict = "reached" if ms[name] / own >= wanted else "NOT reached"
        print(f"{verdict}: {ms[name] / own:.2f} times as fast as {name} (to reach: {wanted})")
    if flags.features:
        print(time_to_quality(flags.features))


def time_to_quality(path: Path) -> str:
    """Train on 60 % of each class and say after how many seconds of training the test images reach mAP@20 0.90."""
    with np.load(path) as content:
        features, labels, paths = content["features"], content["labels"], content["paths"].tolist()
    split = splits.stratified_split(paths, labels, 0.6, 0)
    train, test = (np.flatnonzero(np.isin(paths, side)) for side in (split.train_paths, split.test_paths))
    learner = published_learner(features[train], labels[train])
    seconds, score = 0.0, 0.0
    while score < GOAL and learner.iteration < 10_000:
        began = time.perf_counter()
        learner.advance(500)
        seconds += time.perf_counter() - began
        score = mean_average_precision(encode(learner.method.network, features[test]), labels[test])
    verdict = "reached" if score >= GOAL else "NOT reached"
    return f"{verdict}: mAP@20 {score:.3f} after {learner.iteration} iterations, {seconds:.0f} s of training"


def training_images(path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Features [1260, 2048] and labels of 60 images each of 21 classes."""
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), PER_CLASS)
    if path is None:
        rng = np.random.default_rng(0)
        return np.abs(rng.normal(size=(len(labels), WIDTH))).astype(np.float32), labels
    with np.load(path) as content:
        stored, of = content["features"], content["labels"]
    rows = np.concatenate([np.flatnonzero(of == c)[:PER_CLASS] for c in range(CLASSES)])
    return stored[rows], labels


if __name__ == "__main__":
    main()
