"""TensorFlow and Keras as the program needs them, whatever the machine says; and what is shown of their start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO_ROOT

CODE = """
from mhcln.quiet_tensorflow import keras
print(keras.config.backend(), keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
print(keras.layers.Dense(1).compute_dtype, keras.layers.Conv2D(1, 1).data_format)
"""
USUAL = "tensorflow float32 1e-07 channels_last\nfloat32 channels_last\n"


def loaded(home: Path, code: str = CODE, **environment: str) -> subprocess.CompletedProcess:
    variables = {**os.environ, "HOME": str(home), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=REPO_ROOT, env=variables, capture_output=True, text=True, check=False)


def write_keras_json(home: Path, **content: object) -> Path:
    path = home / ".keras" / "keras.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return path


def test_neither_an_old_keras_json_nor_the_environment_changes_anything(tmp_path):
    write_keras_json(tmp_path, backend="theano", floatx="float16", epsilon=0.5, image_data_format="channels_first")
    done = loaded(tmp_path, KERAS_BACKEND="torch")
    assert (done.returncode, done.stdout) == (0, USUAL), done.stderr


SCRIPT = """
from mhcln import cli
from mhcln.quiet_tensorflow import tf
cli.run(cli.Parser("test"), lambda *_: tf.constant(1))
"""


def test_a_keras_json_that_keras_does_not_take_is_one_line(tmp_path, users_mistake):
    write_keras_json(tmp_path, floatx="float8")
    what = "~/.keras/keras.json has a value that Keras does not take; correct or delete"
    users_mistake(loaded(tmp_path, SCRIPT), what)


def test_keras_that_runs_on_another_backend_already_is_refused(tmp_path, users_mistake):
    code = "import sys, types\nkeras = sys.modules['keras'] = types.ModuleType('keras')\n"
    code += "keras.config = types.SimpleNamespace(backend=lambda: 'torch')\n"
    done = loaded(tmp_path, code + SCRIPT)
    users_mistake(done, "Keras runs on torch here; import mhcln before Keras, or set KERAS_BACKEND")


GPU_IN_USE = """
import mhcln.quiet_tensorflow as quiet, tensorflow
tensorflow.config.list_physical_devices = lambda kind=None: ["GPU:0"]
def refuse(*_): raise RuntimeError("Physical devices cannot be modified after being initialized")
tensorflow.config.experimental.set_memory_growth = refuse
print(quiet.tf.constant(1).numpy(), quiet.keras.__name__)
"""


def test_a_notebook_that_uses_its_gpu_already_is_left_alone_and_no_home_is_needed():
    done = loaded(Path("/nonexistent/home"), GPU_IN_USE, KERAS_BACKEND="")
    assert (done.returncode, done.stdout) == (0, "1 keras\n"), done.stderr


@pytest.fixture
def load(tmp_path):
    """A function that loads a TensorFlow whose source is given, in a process of its own."""

    def run(source: str, **environment: str) -> subprocess.CompletedProcess:
        (tmp_path / "tensorflow.py").write_text(f"import os\n{source}\n")
        paths = os.pathsep.join([str(tmp_path), str(REPO_ROOT)])
        return loaded(tmp_path, "from mhcln.quiet_tensorflow import tf; tf.constant", PYTHONPATH=paths, **environment)

    return run


def test_what_tensorflow_writes_is_shown_if_loading_fails_or_the_whole_log_is_wanted(load):
    result = load("os.write(2, b'libstdc++ is too old\\n'); raise ImportError('no TensorFlow')")
    assert result.stderr.startswith("libstdc++ is too old\nTraceback")
    assert "ImportError: no TensorFlow" in result.stderr
    writes = "os.write(2, b'compiled to use AVX'); os._exit(1)"
    assert load(writes).stderr == ""
    assert load(writes, TF_CPP_MIN_LOG_LEVEL="0").stderr == "compiled to use AVX"


def test_a_users_own_setting_of_onednn_wins(load):
    shown = "os.write(1, os.environ.get('TF_ENABLE_ONEDNN_OPTS', 'unset').encode()); os._exit(0)"
    assert load(shown, TF_ENABLE_ONEDNN_OPTS="0").stdout == "0"
