"""Keras's files: what is read of them, and files that are damaged, claim too much or lead into other files."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from mhcln.storage import keras_file
from mhcln.storage.keras_file import Shapes, parse_config, read_archive, read_weights

KERNEL, BIAS = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)
DENSE = [Shapes("Dense", [(2, 3), (3,)])]
PATHS = ("layers/dense/vars/0", "layers/dense/vars/1")
SECRET = np.full((2, 3), 7, np.float32)


@pytest.fixture
def whole(tmp_path):
    """An HDF5 file as Keras 3 writes it, to be changed."""
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        for path, value in zip(PATHS, (KERNEL, BIAS), strict=True):
            file[path] = value
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["layers/dense/vars/0"] = SECRET
    (tmp_path / "other.bin").write_bytes(SECRET.tobytes())
    return tmp_path / "whole.h5"


def config(*layers: tuple[str, str, dict], nodes=None) -> bytes:
    """The JSON of a chain of layers, each given by its name, class and options."""
    described = []
    for number, (name, kind, options) in enumerate(layers):
        history = {"class_name": "__keras_tensor__", "config": {"keras_history": [layers[number - 1][0], 0, 0]}}
        inbound = [{"args": [history], "kwargs": {"mask": None}}] if number else []
        described.append({"class_name": kind, "config": {"name": name, **options}, "inbound_nodes": nodes or inbound})
    return json.dumps({"module": "keras", "class_name": "Functional", "config": {"layers": described}}).encode()


CONFIG = config(("in", "InputLayer", {"batch_shape": [None, 2]}), ("dense", "Dense", {"units": 3}))


def write_archive(path, weights, content=CONFIG, method=zipfile.ZIP_STORED, **more):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", content)
        archive.writestr("model.weights.h5", weights.read_bytes())
        for name, value in more.items():
            archive.writestr(name.replace("__", "/"), value)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_read(tmp_path, whole, method):
    layers, weights = read_archive(write_archive(tmp_path / "a.keras", whole, method=method))
    assert [(layer.name, layer.kind, layer.inputs) for layer in layers] == [
        ("in", "InputLayer", []),
        ("dense", "Dense", ["in"]),
    ]
    assert layers[1].config["units"] == 3
    ((kernel, bias),) = read_weights(weights, DENSE)
    assert np.array_equal(kernel, KERNEL)
    assert np.array_equal(bias, BIAS)


def test_layers_of_keras_2_name_what_they_read():
    (layer,) = parse_config(config(("join", "Concatenate", {}), nodes=[[["a", 0, 0, {}], ["b", 0, 0, {}]]]))
    assert layer.inputs == ["a", "b"]


def test_weights_are_found_under_the_names_of_every_format(tmp_path):
    names = ["conv2d/kernel", "norm/beta"]
    arrays = [np.ones((1, 1, 3, 2), np.float32), np.zeros(2, np.float32)]
    wanted = [Shapes("Conv2D", [(1, 1, 3, 2)]), Shapes("Conv2D", [(2,)])]
    with h5py.File(tmp_path / "keras2.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"conv2d", b"relu", b"norm"])
        for layer, name, value in zip(("conv2d", "norm"), names, arrays, strict=True):
            file[f"{layer}/{name}"] = value
            file[layer].attrs["weight_names"] = np.array([name.encode()])
        file.create_group("relu").attrs["weight_names"] = np.zeros(0)
    for root in keras_file.ROOTS:
        with h5py.File(tmp_path / f"{root}.h5", "w") as file:
            for number, value in enumerate(arrays):
                file[f"{root}/conv2d{f'_{number}' if number else ''}/vars/0"] = value
    files = list(tmp_path.iterdir())
    assert len(files) == 3
    for path in files:
        (first,), (second,) = read_weights(path, wanted)
        assert np.array_equal(first, arrays[0])
        assert np.array_equal(second, arrays[1])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"config": 1}',
        b'{"config": {"layers": [1]}}',
        b"[" * 100_000,
        b"9" * 10_000,
        b'{"config": {"layers": ' + b"[" * 100_000,
        config((None, "Dense", {})),
        config(("a", None, {})),
        config(("a", "Dense", {}), ("a", "Dense", {})),
        config(("a", "Dense", {}), nodes={"keras_history": 1}),
    ],
)
def test_a_configuration_that_is_none_is_refused(content):
    with pytest.raises(ValueError, match=r"."):
        parse_config(content)


@pytest.mark.parametrize(
    ("more", "content", "words"),
    [
        ({"..__evil.py": "x"}, CONFIG, "other files than a network of Keras"),
        ({"__etc__evil": "x"}, CONFIG, "other files than a network of Keras"),
        ({"assets__a.txt": "x"}, CONFIG, "other files than a network of Keras"),
        ({}, b" " * 5_000_000, "it holds no config.json of at most 4194304 bytes"),
    ],
)
def test_an_archive_of_anything_else_is_refused_and_not_unpacked(tmp_path, monkeypatch, whole, more, content, words):
    path = write_archive(tmp_path / "a.keras", whole, content, **more)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        read_archive(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_changed_byte_of_an_archive_is_noticed(tmp_path, whole):
    path = write_archive(tmp_path / "a.keras", whole)
    content = path.read_bytes()
    start = content.index(KERNEL.tobytes())
    path.write_bytes(content[:start] + b"\1" + content[start + 1 :])
    with pytest.raises(ValueError, match="its CRC is another"):
        read_archive(path)


def test_files_too_large_to_be_a_network_are_refused(tmp_path, whole, monkeypatch):
    path = write_archive(tmp_path / "a.keras", whole)
    monkeypatch.setattr(keras_file, "FILE_BYTES", 100)
    for read in (read_archive, lambda path: read_weights(path, DENSE)):
        with pytest.raises(ValueError, match="more than 100 bytes"):
            read(path)


def external_link(file):
    file[PATHS[0]] = h5py.ExternalLink("other.h5", PATHS[0])


def external_group(file):
    del file["layers/dense"]
    file["layers/dense"] = h5py.ExternalLink("other.h5", "layers/dense")


def soft_link(file):
    file[PATHS[0]] = h5py.SoftLink("/layers/dense/vars/1")


def soft_loop(file):
    file[PATHS[0]] = h5py.SoftLink("/" + PATHS[0])


def external_storage(file):
    file.create_dataset(PATHS[0], (2, 3), "f4", external=[("other.bin", 0, 24)])


def virtual(file):
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource("other.h5", PATHS[0], (2, 3))
    file.create_virtual_dataset(PATHS[0], layout)


def never_written(file):
    file.create_dataset(PATHS[0], (2, 3), "f4")


def chunked(file):
    file.create_dataset(PATHS[0], data=KERNEL, chunks=(2, 3))


def compressed(file):
    file.create_dataset(PATHS[0], data=KERNEL, compression="gzip")


def huge(file):
    file.create_dataset(PATHS[0], (10**6, 10**7), "f4")


def huge_and_compressed(file):
    file.create_dataset(PATHS[0], (10**6, 10**7), "f4", compression="gzip", chunks=(1000, 1000))


def of_text(file):
    file[PATHS[0]] = np.full((2, 3), b"x")


def of_references(file):
    file.create_dataset(PATHS[0], (2, 3), h5py.ref_dtype)


def of_integers(file):
    file[PATHS[0]] = np.ones((2, 3), np.int32)


def not_finite(file):
    file[PATHS[0]] = np.full((2, 3), np.nan, np.float32)


def too_large_for_float32(file):
    file[PATHS[0]] = np.full((2, 3), 1e300)


def of_another_shape(file):
    file[PATHS[0]] = KERNEL.T


def a_group(file):
    file.create_group(PATHS[0])


def absent(_file):
    pass


CHANGES = [
    *(external_link, external_group, external_storage, virtual, soft_link, soft_loop, never_written),
    *(
        chunked,
        compressed,
        huge,
        huge_and_compressed,
        of_text,
        of_references,
        of_integers,
        not_finite,
        too_large_for_float32,
    ),
    *(of_another_shape, a_group, absent),
]


@pytest.mark.parametrize("change", CHANGES)
def test_weights_of_another_kind_are_refused(whole, change):
    with h5py.File(whole, "a") as file:
        del file[PATHS[0]]
        change(file)
    with pytest.raises(ValueError, match=r"^it(s 'layers/dense/vars/0'| has n)"):
        read_weights(whole, DENSE)


@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "layers"), h5py.SoftLink("/layers"), None])
def test_weights_without_a_group_of_layers_are_refused(whole, link):
    with h5py.File(whole, "a") as file:
        del file["layers"]
        if link:
            file["layers"] = link
    with pytest.raises(ValueError, match="it has none of the groups layers, _layer_checkpoint_dependencies"):
        read_weights(whole, DENSE)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("layer_names", h5py.Empty("f4")),
        ("layer_names", "dense"),
        ("layer_names", np.bytes_(b"dense")),
        ("layer_names", np.array([b"dense", b"dense"])),
        ("layer_names", np.array([b"absent"])),
        ("layer_names", np.array([b"\xff"])),
        ("layer_names", np.ones(3)),
        ("layer_names", np.array([b"../dense"])),
        ("layer_names", np.array([[b"dense"]])),
        ("weight_names", np.array([b"vars/0"])),
        ("weight_names", np.array([b"vars/0", b"vars/0"])),
        ("weight_names", np.array([b"/vars/0", b"vars/1"])),
        ("weight_names", np.ones((2, 2))),
    ],
)
def test_lists_of_layers_that_name_no_weights_are_refused(whole, attribute, value):
    with h5py.File(whole, "a") as file:
        file["dense"] = file["layers/dense"]  # a second name of the group
        file.attrs["layer_names"] = np.array([b"dense"])
        file["dense"].attrs["weight_names"] = np.array([b"vars/0", b"vars/1"])
    assert np.array_equal(read_weights(whole, DENSE)[0][0], KERNEL)
    with h5py.File(whole, "a") as file:
        (file if attribute == "layer_names" else file["dense"]).attrs[attribute] = value
    with pytest.raises(ValueError, match=r"."):
        read_weights(whole, DENSE)


def test_lists_of_names_of_variable_length_are_refused_unread(whole, monkeypatch):
    with h5py.File(whole, "a") as file:
        file.attrs["layer_names"] = ["dense"]
    monkeypatch.setattr(h5py.AttributeManager, "__getitem__", None)
    with pytest.raises(ValueError, match="its layer_names is not a list of names of fixed length"):
        read_weights(whole, DENSE)


def test_hdf5_cut_anywhere_is_refused(whole):
    content = whole.read_bytes()
    for size in range(0, len(content), 37):
        whole.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"."):
            read_weights(whole, DENSE)
