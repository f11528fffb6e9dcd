"""What TensorFlow runs on: which card, or the processor; what is said of it, and what becomes of its failures."""

import functools
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import REPO_ROOT

from mhcln import device
from mhcln.console import UserError
from mhcln.device import explained, open_device
from mhcln.quiet_tensorflow import keras, tf

BUILT_FOR = ["sm_60", "sm_70", "sm_86", "compute_90a"]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that replaces what TensorFlow says of the machine: its cards, by their compute capabilities."""

    def make(*capabilities: tuple[int, int], in_dev: int = 0) -> SimpleNamespace:
        cards = [tf.config.PhysicalDevice(f"/physical_device:GPU:{n}", "GPU") for n in range(len(capabilities))]
        details = {
            card.name: {"device_name": "NVIDIA X", "compute_capability": capability}
            for card, capability in zip(cards, capabilities, strict=True)
        }
        state = SimpleNamespace(cards=cards, visible=cards, deterministic=False)
        build = {"cuda_compute_capabilities": BUILT_FOR, "cuda_version": "12.5.1"}
        for number in range(in_dev):
            (tmp_path / f"nvidia{number}").touch()
        monkeypatch.delenv(device.VISIBLE, raising=False)
        monkeypatch.setattr(device, "CARDS", tmp_path)
        monkeypatch.setattr(device, "DRIVER", tmp_path / "version")
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda card: details[card.name])
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: cards)
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda _kind: state.visible)
        monkeypatch.setattr(tf.config, "set_visible_devices", lambda opened, _kind: setattr(state, "visible", opened))
        deterministic = functools.partial(setattr, state, "deterministic", True)
        monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", deterministic)
        monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: build)
        return state

    return make


H100 = (9, 0)


@pytest.mark.parametrize("choice", ["auto", "gpu"])
def test_of_several_cards_one_is_opened(machine, console, choice):
    found = machine(H100, H100)
    assert open_device(choice, console) == "NVIDIA X"
    assert (found.visible, found.deterministic) == (found.cards[:1], True)
    assert console.warned == []


def test_cpu_hides_every_card(machine, console):
    found = machine(H100)
    assert open_device("cpu", console) == f"CPU, {device.threads()} threads"
    assert (found.visible, found.deterministic) == ([], False)


@pytest.mark.parametrize(
    ("capability", "supported"),
    [((5, 2), False), ((6, 1), True), ((7, 5), True), ((8, 5), False), ((8, 9), True), (H100, True), ((12, 0), False)],
)
def test_a_card_needs_code_of_its_major_version(machine, console, capability, supported):
    found = machine(capability)
    open_device("auto", console)
    assert device.uses_gpu() is supported
    if not supported:
        assert found.visible == []
        why = f"NVIDIA X has compute capability {'.'.join(map(str, capability))}, which TensorFlow"
        (line,) = console.warned
        assert line.startswith(why)
        assert line.endswith("pip install 'tensorflow[and-cuda]'; going on with the processor")
        with pytest.raises(UserError, match=f"--device=gpu, but {re.escape(why)}"):
            open_device("gpu", console)


def test_a_card_that_tensorflow_does_not_see_is_warned_of_unless_it_is_hidden(machine, console, monkeypatch):
    machine(in_dev=1)
    assert open_device("auto", console).startswith("CPU, ")
    (line,) = console.warned
    for word in ("cannot use the NVIDIA card", "pip install 'tensorflow[and-cuda]'", "TF_CPP_MIN_LOG_LEVEL=0"):
        assert word in line
    monkeypatch.setenv(device.VISIBLE, "")
    open_device("auto", console)
    assert len(console.warned) == 1


def test_gpu_without_a_card_is_an_error(machine, console):
    machine()
    with pytest.raises(UserError, match="--device=gpu, but there is no NVIDIA card"):
        open_device("gpu", console)


def test_a_card_without_xla_trains_without_it(machine, console, monkeypatch):
    machine(H100)

    def fail(*_arguments, **_options):
        raise tf.errors.InternalError(None, None, "libdevice not found at ./libdevice.10.bc\nmore")

    monkeypatch.setattr(tf, "function", fail)
    assert open_device("auto", console) == "NVIDIA X"
    assert console.warned == []  # extraction and queries do not use XLA
    assert not device.trains_with_xla(console)
    assert "libdevice not found at ./libdevice.10.bc" in console.warned[0]


def test_versions_name_what_a_card_needs_and_leave_it_out_elsewhere(machine, tmp_path):
    own = {"tensorflow": tf.__version__, "keras": keras.__version__}
    machine()
    assert device.versions() == own
    machine(H100)
    assert device.versions() == {**own, "cuda": "12.5.1"}
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n")
    assert device.versions() == {**own, "cuda": "12.5.1", "driver": "535.104.05"}


def test_memory_that_is_used_up_is_one_line_with_what_to_do():
    with (
        pytest.raises(UserError, match=r"no memory left .OOM when allocating.; take a smaller --batch_size"),
        explained("a smaller --batch_size"),
    ):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmany more lines")


def test_a_card_that_fails_is_one_line_and_a_processor_is_a_fault_of_ours(machine):
    machine(H100)
    with (
        pytest.raises(UserError, match=r"the GPU failed .DNN library initialization failed.; .*--device=cpu"),
        explained("less"),
    ):
        raise tf.errors.InternalError(None, None, "DNN library initialization failed")
    machine()
    with pytest.raises(tf.errors.InternalError), explained("less"):
        raise tf.errors.InternalError(None, None, "a fault")


OTHER_ERRORS = """
import sys
from mhcln.device import explained
for error in (OSError("no space left"), KeyboardInterrupt()):
    try:
        with explained("less"):
            raise error
    except (OSError, KeyboardInterrupt):
        pass
print("tensorflow" in sys.modules)
"""


def test_errors_that_are_none_of_tensorflow_do_not_load_it():
    done = subprocess.run([sys.executable, "-c", OTHER_ERRORS], cwd=REPO_ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_float32_means_float32_but_within_tf32():
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    assert not enabled()
    with pytest.raises(KeyError), device.tf32(True):
        assert enabled()
        raise KeyError
    assert not enabled()


def test_training_in_tf32_needs_a_card_that_has_it(machine):
    for card, has in ((H100, True), ((7, 0), False)):
        machine(card)
        assert device.has_tf32() is has
    with pytest.raises(UserError, match="take float32"):
        device.check_precision("tf32")
    device.check_precision("float32")
