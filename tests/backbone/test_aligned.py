"""Arrays that become tensors: which share their memory, and that the others are copied and not refused."""

import weakref

import numpy as np
import pytest

from mhcln.backbone.aligned import ALIGNMENT, aligned_array, as_tensor
from mhcln.quiet_tensorflow import tf


@pytest.mark.parametrize("shape", [(1, 3, 3, 3), (5, 7, 7, 3), (40, 40, 40, 3)])
def test_an_aligned_array_is_not_copied(shape):
    array = aligned_array(shape)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.ctypes.data % ALIGNMENT == 0
    array[:] = 1
    tensor = as_tensor(array)
    array[:] = 2
    assert tensor.dtype == tf.float32
    assert (tensor.numpy() == 2).all()


def test_its_memory_lives_as_long_as_the_tensor():
    array = aligned_array((2, 3))
    array[:] = 7
    memory = weakref.ref(array.base if array.base is not None else array)
    tensor = as_tensor(array)
    del array
    assert memory() is not None
    assert (tensor.numpy() == 7).all()
    del tensor
    assert memory() is None


def test_any_other_array_is_copied_and_computes_the_same():
    array = aligned_array((4, 5, 5, 3))
    array[:] = np.random.default_rng(0).random(array.shape)
    read_only = array.view()
    read_only.flags.writeable = False
    weights = tf.random.stateless_normal([3, 3, 3, 8], [1, 2])
    for images in (array[1:], array[::2], array[:, ::-1], read_only, tf.constant(array)):
        tensor = as_tensor(images)
        before = tensor.numpy()
        wanted = tf.nn.conv2d(tf.constant(before), weights, 1, "SAME").numpy()
        np.testing.assert_array_equal(tf.nn.conv2d(tensor, weights, 1, "SAME").numpy(), wanted)
        if images is not read_only:
            assert not np.shares_memory(np.asarray(tensor), array)
