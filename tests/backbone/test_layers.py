"""Changes of a list of layers that keep what it computes."""

import numpy as np
import pytest

from mhcln.backbone.compiled import compiled
from mhcln.backbone.layers import Conv, Join, Network, Pool, Scaling, pool_after_conv1x1
from mhcln.quiet_tensorflow import tf

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(("padding", "also_read"), [("SAME", False), ("SAME", True), ("VALID", False)])
def test_averages_move_behind_the_pointwise_convolutions_that_read_them(padding, also_read):
    kernel = RNG.standard_normal((1, 1, 3, 2)).astype(np.float32)
    layers = {
        "mean": Pool("image", "average", (3, 3), (1, 1), padding),
        "conv": Conv("mean", kernel, np.float32([0.5, -0.5]), (1, 1), "SAME", relu=True),
        "join": Join(("conv", "mean") if also_read else ("conv",)),
        "last": Pool("join", "max", (2, 2), (1, 1), "VALID"),
    }
    moved = pool_after_conv1x1(layers)
    assert moved["conv"].source == "image"
    assert ("mean" in moved) == also_read
    scaling = Scaling((7, 5), half_pixel=False, mean=128.0, factor=1 / 128)
    images = RNG.uniform(0, 255, (2, 7, 5, 3)).astype(np.float32)
    plain = tf.nn.avg_pool2d((images - 128) / 128, 3, 1, padding)
    by_hand = tf.nn.relu(tf.nn.conv2d(plain, kernel, 1, "SAME") + layers["conv"].bias)
    if also_read:
        by_hand = tf.concat([by_hand, plain], axis=3)
    wanted = tf.reshape(tf.nn.max_pool2d(by_hand, 2, 1, "VALID"), [2, -1])
    found = compiled(Network(layers, "image", scaling, {}), "float32")(images)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
