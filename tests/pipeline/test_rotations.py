"""Features of rotated images: their extraction, training on them, and features that are refused."""

import dataclasses
import shutil

import numpy as np
import pytest
from conftest import RecordingConsole, run_here
from factories import draw_images, separable_features, write_training_inputs
from graphs import opened

import mhcln
from mhcln.backbone.compiled import rotated
from mhcln.console import UserError
from mhcln.pipeline import extract as pipeline_extract
from mhcln.pipeline.rotations import read_rotations
from mhcln.pipeline.training_setup import TrainingData
from mhcln.quiet_tensorflow import tf
from mhcln.storage import runs
from mhcln.storage.features import read_features, write_features
from mhcln.storage.files import locked
from mhcln.storage.results import read_results
from mhcln.storage.split import read_split

EXTRACTOR = "random-inception-v3 pool_3; seed=0; tiff=pixels; precision=float32; views=1"


def write_rotations(dump_dir, count: int = 3) -> None:
    """Features of classes and a split, and the same features with noise as rotations."""
    features = separable_features()
    images = dataclasses.replace(features.images, extractor=EXTRACTOR)
    write_training_inputs(dump_dir, dataclasses.replace(features, images=images))
    for number in range(1, count):
        noise = np.random.default_rng(number).normal(scale=0.3, size=features.vectors.shape).astype(np.float32)
        other = dataclasses.replace(images, extractor=f"{EXTRACTOR}; turn={number}")
        folder = dump_dir / "views" / str(number)
        folder.mkdir(parents=True)
        write_features(folder, dataclasses.replace(features, vectors=features.vectors + noise, images=other))


@pytest.fixture
def dump_dir(tmp_path):
    write_rotations(tmp_path)
    return tmp_path


def test_the_features_of_a_rotation_are_those_of_the_rotated_image(tmp_path, model_dir):
    images_dir = tmp_path / "images"
    (images_dir / "class").mkdir(parents=True)
    for path in draw_images(images_dir, 5):
        path.rename(images_dir / "class" / path.name)
    flags = ("--model_dir", model_dir, "--images_dir", images_dir, "--tiff=pixels", "--dump_dir")
    run_here("extract_features.py", *flags, tmp_path / "one")
    run_here("extract_features.py", *flags, tmp_path / "views", "--training_views=8")
    one, eight = tmp_path / "one/features.npz", tmp_path / "views/features.npz"
    assert one.read_bytes() == eight.read_bytes()
    run_here("extract_features.py", *flags, tmp_path / "mean", "--views=8")
    rotations = read_rotations(tmp_path / "views", 8)
    vectors = np.array([rotations.vectors, *(one.vectors for one in rotations.rotations)])
    np.testing.assert_allclose(vectors.mean(0), read_features(tmp_path / "mean").vectors, rtol=1e-4, atol=1e-6)
    assert len(np.unique(vectors.round(4), axis=0)) == 8
    again = run_here("extract_features.py", *flags, tmp_path / "views", "--training_views=2")
    assert sum("nothing to do" in line for line in again.said) == 2


def test_no_other_command_writes_while_rotations_are_extracted(tmp_path, model_dir, monkeypatch):
    (tmp_path / "images/class").mkdir(parents=True)
    draw_images(tmp_path / "images/class", 2)
    real = pipeline_extract.extract

    def extract(scan, engine, options, console):
        if options.backbone.inference.rotation:
            with pytest.raises(UserError, match="another process is writing here"), locked(tmp_path / "dump"):
                pass
        real(scan, engine, options, console)

    monkeypatch.setattr(pipeline_extract, "extract", extract)
    flags = ("--model_dir", model_dir, "--images_dir", tmp_path / "images", "--dump_dir", tmp_path / "dump")
    run_here("extract_features.py", *flags, "--training_views=2")
    assert (tmp_path / "dump/views/1/features.npz").is_file()


@pytest.mark.parametrize("rotation", [0, 3, 6])
def test_a_backbone_of_one_rotation_rotates_its_images(model_dir, rotation):
    plain, other = opened(model_dir), opened(model_dir, rotation=rotation)
    images = np.random.default_rng(0).uniform(0, 255, (2, *plain.scaling.size, 3)).astype(np.float32)
    assert (other.features(images) == plain.features(rotated(tf.constant(images), rotation).numpy())).all()


def test_training_sees_every_rotation_of_the_training_images_and_no_other(dump_dir):
    features, split = read_rotations(dump_dir, 3), read_split(dump_dir / "split.npz")
    data = TrainingData.of(features, split)
    vectors, labels = data.training_images(data.train)
    parts = [each.vectors[data.train] for each in (features, *features.rotations)]
    assert (vectors == np.concatenate(parts)).all()
    assert (labels == np.concatenate([features.images.labels[data.train]] * 3)).all()


@pytest.mark.parametrize("flags", [["--loss=sdh"], ["--loss=orthohash", "--ITERS=30"]])
def test_a_run_names_its_rotations_and_is_another_than_that_of_one(dump_dir, flags, evaluate):
    flags = (*flags, "--HASH_BITS=8", "--dump_dir", dump_dir)
    run_here("trainer.py", *flags, "--training_views=3", "--run_name=three")
    run_here("trainer.py", *flags, "--run_name=one")
    three, one = (runs.read_run(dump_dir / name) for name in ("three", "one"))
    assert (three.inputs.training_views, one.inputs.training_views) == (3, None)
    assert three.inputs.features_sha256 == one.inputs.features_sha256
    assert three.codes.paths == one.codes.paths
    hasher = mhcln.Hasher.load(dump_dir / "three")
    assert (hasher.encode(read_features(dump_dir).vectors) == three.codes.codes).all()
    with pytest.raises(UserError, match=r"holds another run .*training_views 3 there, None now"):
        run_here("trainer.py", *flags, "--run_name=three")
    assert "done already" in run_here("trainer.py", *flags, "--training_views=3", "--run_name=three").said[-1]
    assert evaluate("--k=5", "--interval=0", "--run_name=three", "--dump_dir", dump_dir).returncode == 0
    assert read_results(dump_dir / "three")["training_views"] == 3


def test_validation_leaves_out_all_rotations_of_an_image(dump_dir):
    flags = ("--loss=orthohash", "--ITERS=30", "--HASH_BITS=8", "--validate=0.3", "--dump_dir", dump_dir)
    console = run_here("trainer.py", *flags, "--training_views=3")
    assert any("of 48 rotations of training images" in line for line in console.said)  # 24, 8 of them for validation


def test_a_test_image_that_is_a_rotation_of_a_training_image_is_counted(dump_dir):
    features, split = read_features(dump_dir), read_split(dump_dir / "split.npz")
    data = TrainingData.of(features, split)
    other = read_features(dump_dir / "views/1")
    other.vectors[data.train[3]] = features.vectors[data.test[5]]
    other.vectors[data.test[0]] = features.vectors[data.test[1]]  # which nobody trains on
    write_features(dump_dir / "views/1", other)
    run_here("trainer.py", "--loss=sdh", "--HASH_BITS=8", "--dump_dir", dump_dir)
    run_here("trainer.py", "--loss=sdh", "--HASH_BITS=8", "--dump_dir", dump_dir, "--training_views=2")
    counts = [runs.read_run(dump_dir / name).inputs.train_test_duplicates for name in ("K8_sdh", "K8_sdh_views2")]
    assert counts == [0, 1]
    console = RecordingConsole()
    mhcln.fit(read_rotations(dump_dir / "features.npz", 2), split, mhcln.TrainConfig(loss="sdh"), console)
    assert "1 of 16 test images are equal to training images" in console.warned


def test_a_damaged_rotation_names_the_flag_that_makes_it(dump_dir):
    with (dump_dir / "views/1/features.npz").open("r+b") as handle:
        handle.truncate(1000)
    with pytest.raises(UserError, match=r"views/1/features.npz is damaged .* with the flags of .*--training_views=2"):
        run_here("trainer.py", "--loss=sdh", "--HASH_BITS=8", "--dump_dir", dump_dir, "--training_views=2")


def test_a_changed_rotation_is_noticed(dump_dir):
    flags = ("--loss=sdh", "--HASH_BITS=8", "--dump_dir", dump_dir, "--training_views=3")
    run_here("trainer.py", *flags)
    assert runs.read_run(dump_dir / "K8_sdh_views3").inputs.training_views == 3
    other = read_features(dump_dir / "views/2")
    write_features(dump_dir / "views/2", dataclasses.replace(other, vectors=other.vectors * 2))
    with pytest.raises(UserError, match=r"holds another run .*views_sha256"):
        run_here("trainer.py", *flags)


def test_rotations_that_do_not_fit_are_refused(dump_dir):
    flags = ("--loss=sdh", "--HASH_BITS=8", "--dump_dir", dump_dir)
    with pytest.raises(
        UserError, match=r"views/3 has no features of that rotation; make them with extract_features.py --t"
    ):
        run_here("trainer.py", *flags, "--training_views=4")
    shutil.copytree(dump_dir / "views/1", dump_dir / "views/3")
    with pytest.raises(UserError, match=r"views/3 was made by '.*turn=1', not by '.*turn=3'"):
        run_here("trainer.py", *flags, "--training_views=4")
    other = read_features(dump_dir / "views/2")
    less = dataclasses.replace(other, images=other.images.at(range(1, len(other.images))), vectors=other.vectors[1:])
    write_features(dump_dir / "views/2", less)
    with pytest.raises(UserError, match="is of other images than"):
        run_here("trainer.py", *flags, "--training_views=3")


@pytest.mark.parametrize(
    ("extractor", "problem"),
    [
        ("dinov3 vitb16", r"'dinov3 vitb16', which extract_features.py does not know; leave --training_views out, or"),
        (
            EXTRACTOR.replace("views=1", "views=8"),
            r"holds means over 8 rotations; .* --training_views=3 without --views",
        ),
    ],
)
def test_features_without_single_rotations_are_refused(dump_dir, extractor, problem):
    features = read_features(dump_dir)
    images = dataclasses.replace(features.images, extractor=extractor)
    write_features(dump_dir, dataclasses.replace(features, images=images))
    with pytest.raises(UserError, match=problem):
        run_here("trainer.py", "--loss=sdh", "--HASH_BITS=8", "--dump_dir", dump_dir, "--training_views=3")


def test_what_a_message_about_other_images_advises_helps(tmp_path, model_dir):
    (tmp_path / "images/class").mkdir(parents=True)
    draw_images(tmp_path / "images/class", 2)
    flags = ("--model_dir", model_dir, "--images_dir", tmp_path / "images", "--dump_dir", tmp_path)
    run_here("extract_features.py", *flags, "--training_views=2")
    features = read_features(tmp_path)
    unstamped = dataclasses.replace(features.images, stamps=features.images.stamps[:0])  # as earlier versions wrote it
    write_features(tmp_path, dataclasses.replace(features, images=unstamped))
    run_here("extract_features.py", *flags, "--training_views=2")
    with pytest.raises(UserError, match=r"if that finds nothing to do after deleting .*/views and .*/features\.npz"):
        read_rotations(tmp_path, 2)
    (tmp_path / "features.npz").unlink()
    shutil.rmtree(tmp_path / "views")
    run_here("extract_features.py", *flags, "--training_views=2")
    assert len(read_rotations(tmp_path, 2).rotations) == 1


def test_rotations_may_be_in_shards(dump_dir):
    whole, split = read_rotations(dump_dir, 3), read_split(dump_dir / "split.npz")
    for folder in (dump_dir, dump_dir / "views/1"):
        write_features(folder, read_features(folder), shard_images=7)
        (folder / "features.npz").unlink(missing_ok=True)
    data = TrainingData.of(read_rotations(dump_dir, 3), split)
    vectors, labels = TrainingData.of(whole, split).training_images(data.train)
    found = data.training_images(data.train)
    assert (found[0] == vectors).all()
    assert (found[1] == labels).all()


@pytest.mark.parametrize("more", [["--views=8"], ["--hash_with=here/K32"]])
def test_flags_that_contradict_rotations_are_refused(tmp_path, more):
    (tmp_path / "here/K32").mkdir(parents=True)
    (tmp_path / "here/K32/codes.npz").touch()
    more = [flag.replace("here", str(tmp_path / "here")) for flag in more]
    with pytest.raises(UserError, match=r"--training_views .*; leave one of"):
        run_here("extract_features.py", "--images_dir", tmp_path, "--dump_dir", tmp_path, "--training_views=2", *more)
