"""Keras as the program needs it, whatever the user's machine says."""

import json
import os
import subprocess
import sys

import pytest
from conftest import REPO_ROOT

CODE = """
from mhcln.quiet_tensorflow import keras
print(keras.config.backend(), keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
print(keras.layers.Dense(1).compute_dtype, keras.layers.Conv2D(1, 1).data_format)
"""
USUAL = "tensorflow float32 1e-07 channels_last\nfloat32 channels_last\n"


def loaded(home, code: str = CODE, **environment: str) -> subprocess.CompletedProcess:
    variables = {**os.environ, "HOME": str(home), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=REPO_ROOT, env=variables, capture_output=True, text=True, check=False)


def write_keras_json(home, **content: object) -> None:
    (home / ".keras").mkdir()
    (home / ".keras" / "keras.json").write_text(json.dumps(content))


@pytest.mark.parametrize("backend", ["torch", "jax", ""])
def test_the_backend_is_tensorflow(tmp_path, backend):
    done = loaded(tmp_path, KERAS_BACKEND=backend)
    assert (done.returncode, done.stdout) == (0, USUAL), done.stderr


def test_an_old_keras_json_changes_nothing(tmp_path):
    write_keras_json(tmp_path, backend="theano", floatx="float16", epsilon=0.5, image_data_format="channels_first")
    done = loaded(tmp_path)
    assert (done.returncode, done.stdout) == (0, USUAL), done.stderr


def test_a_keras_json_that_keras_does_not_take_is_one_line_and_its_advice_helps(tmp_path, pipeline, users_mistake):
    write_keras_json(tmp_path, floatx="float8")
    flags = ["--HASH_BITS=8", "--ITERS=2", "--BATCH_SIZE=6", "--run_name=other", f"--dump_dir={tmp_path}"]
    for name in ("features.npz", "split.npz"):
        (tmp_path / name).symlink_to(pipeline / "dump" / name)
    code = f"import runpy, sys; sys.argv = ['trainer.py', *{flags!r}]; runpy.run_path('trainer.py', None, '__main__')"
    users_mistake(loaded(tmp_path, code), "~/.keras/keras.json has a value that Keras does not take; correct or delete")
    (tmp_path / ".keras" / "keras.json").unlink()
    assert loaded(tmp_path, code).returncode == 0


def test_keras_that_runs_on_another_backend_already_is_refused():
    code = "import sys, types\nkeras = sys.modules['keras'] = types.ModuleType('keras')\n"
    code += "keras.config = types.SimpleNamespace(backend=lambda: 'torch')\nfrom mhcln.quiet_tensorflow import tf\n"
    code += "from mhcln.console import UserError\ntry: tf.constant(1)\nexcept UserError as error: print(error)"
    done = loaded("/nonexistent", code)
    assert done.stdout == "Keras runs on torch here; import mhcln before Keras, or set KERAS_BACKEND\n", done.stderr


def test_a_home_folder_is_not_needed():
    done = loaded("/nonexistent/home")
    assert (done.returncode, done.stdout) == (0, USUAL), done.stderr
