"""What TensorFlow runs on: which card, or the processor; what is said of it, and what becomes of its failures."""

import os
import subprocess
import sys

import pytest
from conftest import REPO_ROOT

from mhcln import device
from mhcln.console import UserError
from mhcln.device import Device, explained, is_supported, open_device, reason_in_log
from mhcln.quiet_tensorflow import onednn_pays, tf

BUILT_FOR = ["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"]  # as TensorFlow 2.21 has it
LOG = """WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795580583.035611   14082 cudart_stub.cc:31] Could not find cuda drivers on your machine.
W0000 00:00:1795580583.443992   14082 gpu_device.cc:2341] Cannot dlopen some GPU libraries. Skipping registering.
E0000 00:00:1795580583.443992   14082 service.cc:52] unrelated
"""


class Machine:
    """A machine whose cards TensorFlow sees as a test says."""

    def __init__(self, cards: list[tuple[str, tuple[int, int]]]) -> None:
        self.cards = [tf.config.PhysicalDevice(f"/physical_device:GPU:{n}", "GPU") for n in range(len(cards))]
        self.details = dict(zip((card.name for card in self.cards), cards, strict=True))
        self.visible = self.cards
        self.deterministic = False

    def set_visible(self, cards, kind):
        assert kind == "GPU"
        self.visible = list(cards)

    def make_deterministic(self):
        self.deterministic = True

    def describe(self, card):
        name, capability = self.details[card.name]
        return {"device_name": name, "compute_capability": capability}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that replaces what TensorFlow says of the machine."""

    def make(*cards: tuple[str, tuple[int, int]], in_dev: int = 0) -> Machine:
        machine = Machine(list(cards))
        for number in range(in_dev):
            (tmp_path / f"nvidia{number}").touch()
        build = {"is_cuda_build": True, "cuda_compute_capabilities": BUILT_FOR, "cuda_version": "12.5.1"}
        monkeypatch.delenv(device.VISIBLE, raising=False)
        monkeypatch.setattr(device, "CARDS", tmp_path)
        monkeypatch.setattr(device, "DRIVER", tmp_path / "version")
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: machine.cards)
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda _kind: machine.visible)
        monkeypatch.setattr(tf.config, "set_visible_devices", machine.set_visible)
        monkeypatch.setattr(tf.config.experimental, "get_device_details", machine.describe)
        monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", machine.make_deterministic)
        monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: build)
        return machine

    device._xla_failure.cache_clear()
    yield make
    device._xla_failure.cache_clear()


H100, RTX_5090 = ("NVIDIA H100", (9, 0)), ("NVIDIA GeForce RTX 5090", (12, 0))


@pytest.mark.parametrize(
    ("capability", "supported"),
    [
        ((5, 2), False),
        ((6, 1), True),
        ((7, 5), True),
        ((8, 6), True),
        ((9, 0), True),
        ((10, 0), False),
        ((12, 0), False),
    ],
)
def test_a_card_needs_code_of_its_major_version(capability, supported):
    assert is_supported(capability, BUILT_FOR) is supported


def test_a_later_minor_version_is_not_needed():
    assert not is_supported((8, 0), ["sm_86", "sm_90a"])


def test_of_several_cards_one_is_opened(machine, console):
    found = machine(H100, H100)
    opened = open_device("auto", console)
    assert found.visible == found.cards[:1]
    assert found.deterministic
    assert str(opened) == "NVIDIA H100"
    assert opened.is_gpu
    assert console.warned == []


def test_cpu_hides_every_card(machine, console):
    found = machine(H100)
    assert open_device("cpu", console) == Device("CPU")
    assert found.visible == []
    assert not found.deterministic


def test_a_card_that_tensorflow_is_not_built_for_is_named_and_left_alone(machine, console):
    found = machine(RTX_5090)
    assert not open_device("auto", console).is_gpu
    assert found.visible == []
    (line,) = console.warned
    for word in ("RTX 5090", "12.0", "sm_89", "going on with the processor"):
        assert word in line
    with pytest.raises(UserError, match=r"--device=gpu, but NVIDIA GeForce RTX 5090 has compute capability 12\.0"):
        open_device("gpu", console)


def test_a_card_that_tensorflow_does_not_see_is_warned_of_with_the_reason(machine, console, monkeypatch):
    machine(in_dev=1)
    monkeypatch.setattr(device, "_why_no_card", lambda: "libcudnn.so.9 is missing")
    assert not open_device("auto", console).is_gpu
    (line,) = console.warned
    for word in ("libcudnn.so.9 is missing", "pip install 'tensorflow[and-cuda]'"):
        assert word in line


def test_a_hidden_card_or_none_is_no_reason_to_warn(machine, console, monkeypatch):
    machine(in_dev=0)
    open_device("auto", console)
    machine(in_dev=1)
    monkeypatch.setenv(device.VISIBLE, "")
    open_device("auto", console)
    assert console.warned == []


def test_gpu_without_a_card_is_an_error(machine, console):
    machine()
    with pytest.raises(UserError, match="--device=gpu, but there is no NVIDIA card"):
        open_device("gpu", console)


def test_the_worst_line_of_the_log_that_speaks_of_cards_is_the_reason():
    assert reason_in_log(LOG) == "Cannot dlopen some GPU libraries. Skipping registering."
    assert reason_in_log(LOG.replace("W0000", "X")) == "Could not find cuda drivers on your machine."
    assert reason_in_log("") == "it does not say why"


def test_a_card_without_xla_trains_without_it(machine, console, monkeypatch):
    machine(H100)

    def fail(*_arguments, **_options):
        raise tf.errors.InternalError(None, None, "libdevice not found at ./libdevice.10.bc\nmore")

    monkeypatch.setattr(tf, "function", fail)
    assert open_device("auto", console).is_gpu
    assert console.warned == []  # extraction and queries do not use XLA
    assert not device.trains_with_xla(console)
    assert "libdevice not found at ./libdevice.10.bc" in console.warned[0]


def test_versions_name_what_a_card_needs_and_leave_it_out_elsewhere(machine, tmp_path):
    machine(H100)
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n")
    on_card, on_processor = device.versions(Device("NVIDIA H100", is_gpu=True)), device.versions(Device("CPU"))
    assert (on_card.cuda, on_card.driver) == ("12.5.1", "535.104.05")
    assert (on_processor.cuda, on_processor.driver) == (None, None)
    assert on_processor.tensorflow == tf.__version__
    assert str(on_card).endswith("cuda=12.5.1; driver=535.104.05")


def test_memory_that_is_used_up_is_one_line_with_what_to_do(console):
    with (
        pytest.raises(UserError, match=r"no memory left .OOM when allocating.; take a smaller --batch_size"),
        explained("a smaller --batch_size", console),
    ):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmany more lines")


def test_a_card_that_fails_is_one_line_and_a_processor_is_a_fault_of_ours(machine, console, monkeypatch):
    machine(H100)
    monkeypatch.setattr(device, "startup_output", lambda: LOG)
    with (
        pytest.raises(UserError, match=r"the GPU failed .DNN library initialization failed.; .*--device=cpu"),
        explained("less", console),
    ):
        raise tf.errors.InternalError(None, None, "DNN library initialization failed")
    assert "TensorFlow, when it was loaded: Cannot dlopen some GPU libraries. Skipping registering." in console.warned
    machine()
    with pytest.raises(tf.errors.InternalError), explained("less", console):
        raise tf.errors.InternalError(None, None, "a fault")


def test_float32_means_float32_but_within_tf32():
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    assert not enabled()
    with pytest.raises(KeyError), device.tf32(True):
        assert enabled()
        raise KeyError
    assert not enabled()


def test_training_in_tf32_needs_a_card_that_has_it(machine):
    for card, has in ((H100, True), (("Tesla V100", (7, 0)), False)):
        machine(card)
        assert device.has_tf32() is has
    with pytest.raises(UserError, match="take float32"):
        device.check_precision("tf32")
    device.check_precision("float32")


@pytest.fixture
def load(tmp_path):
    """A function that loads a TensorFlow whose source is given, in a process of its own."""

    def run(source: str, **environment: str) -> subprocess.CompletedProcess:
        (tmp_path / "tensorflow.py").write_text(f"import os\n{source}\n")
        command = [sys.executable, "-c", "from mhcln.quiet_tensorflow import tf; tf.constant"]
        paths = os.pathsep.join([str(tmp_path), str(REPO_ROOT)])
        environment = {**os.environ, "PYTHONPATH": paths, **environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_what_tensorflow_writes_is_shown_if_loading_ends_the_process(load):
    result = load("os.write(2, b'The library was compiled to use AVX instructions\\n'); os.abort()")
    assert result.returncode == -6
    assert result.stderr == "The library was compiled to use AVX instructions\n"


def test_what_tensorflow_writes_is_shown_if_loading_fails(load):
    result = load("os.write(2, b'libstdc++ is too old\\n'); raise ImportError('no TensorFlow')")
    assert result.stderr.startswith("libstdc++ is too old\nTraceback")
    assert "ImportError: no TensorFlow" in result.stderr


@pytest.mark.parametrize(
    ("features", "pays"), [({"avx", "avx2", "fma"}, True), ({"avx"}, False), (set(), False)], ids=["AVX2", "AVX", "ARM"]
)
def test_onednn_is_for_processors_with_avx2(features, pays):
    assert onednn_pays(frozenset(features)) is pays


def test_a_users_own_setting_of_onednn_wins(load):
    shown = "os.write(1, os.environ.get('TF_ENABLE_ONEDNN_OPTS', 'unset').encode()); os._exit(0)"
    assert load(shown, TF_ENABLE_ONEDNN_OPTS="0").stdout == "0"
