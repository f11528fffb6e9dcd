"""The benchmark of the methods: its protocols keep training and test apart, and its test is what it names."""

import argparse
import dataclasses
import itertools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mhcln.data.splits import stratified_split
from mhcln.storage.features import Features, write_features
from mhcln.storage.image_table import ImageTable

sys.path.insert(0, str(Path(__file__).resolve().parent))

import line_chart
import method_table
import methods
import protocols
from method_table import Key, Result


@pytest.fixture(scope="module")
def features() -> Features:
    labels = np.repeat(np.arange(6, dtype=np.int32), 10)
    vectors = np.random.default_rng(0).random((60, 40), np.float32) + labels[:, None]
    paths = [f"c{label}/{number}.jpg" for number, label in enumerate(labels.tolist())]
    return Features(vectors, ImageTable(labels, paths, [f"c{number}" for number in range(6)], "drawn", "/x", "drawn"))


def labels_of(features: Features, paths: list[str]) -> np.ndarray:
    return features.images.labels[features.images.rows_of(paths)]


def test_the_usual_split_is_what_the_generator_draws(features):
    images = features.images
    split = protocols.draw(features, protocols.USUAL, 3)
    assert split == stratified_split(images.paths, images.labels, 0.6, 3)


def test_few_training_images_are_some_of_the_usual_ones_and_queries_stay(features):
    usual = protocols.draw(features, protocols.USUAL, 1)
    few = protocols.draw(features, protocols.few(2), 1)
    assert np.bincount(labels_of(features, few.train_paths)).tolist() == [2] * 6
    assert set(few.train_paths) < set(usual.train_paths)
    assert few.test_paths == usual.test_paths


def test_unseen_classes_are_not_trained_on(features):
    splits = [protocols.draw(features, protocols.unseen(features), seed) for seed in range(4)]
    for split in splits:
        trained, asked = (set(labels_of(features, side).tolist()) for side in (split.train_paths, split.test_paths))
        assert not trained & asked
        assert (len(trained), len(asked)) == (4, 2)
        assert len(split.train_paths) + len(split.test_paths) == len(features.images)
    assert len({tuple(split.test_paths) for split in splits}) > 1


def test_p_value_is_worked_out_as_documented_and_a_paired_t_without_the_correction(monkeypatch):
    assert method_table.p_value([0.91, 0.92, 0.93], [0.9, 0.9, 0.9]) == pytest.approx(0.1835, abs=1e-4)
    monkeypatch.setattr(method_table, "TEST_TO_TRAIN", 0.0)
    first, second = np.random.default_rng(1).random((2, 5))
    assert method_table.p_value(first, second) == pytest.approx(stats.ttest_rel(first, second).pvalue)


def result(method: str, seed: int, value: float, bits: int = 32) -> Result:
    return Result(Key("drawn", protocols.USUAL, method, bits, seed), (value + 0.01, value), 9, 100, 1.5)


def made(**means: float) -> list[Result]:
    noise = (0.001, -0.001, 0.0, 0.002, -0.002)
    return [
        result(method, seed, mean + (1 if number % 2 else -1) * noise[seed], bits)
        for bits in (16, 32)
        for number, (method, mean) in enumerate(means.items())
        for seed in range(5)
    ]


def test_the_table_sorts_methods_and_marks_what_does_not_differ_from_the_best():
    lines = method_table.markdown(made(bad=0.8, good=0.95, near=0.9499)).splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == ["good", "near", "bad"]
    assert [row[1].startswith("**") for row in rows] == [True, True, False]
    assert rows[0][1] == "**0.9600 ± 16 / 0.9500 ± 16**"


def test_protocols_are_sorted_from_many_training_images_to_none():
    others = [
        dataclasses.replace(each, key=dataclasses.replace(each.key, protocol=protocol))
        for protocol in (protocols.few(5), protocols.few(20), "4 classes, asked for 2 others")
        for each in made(good=0.7, near=0.8)
    ]
    text = method_table.markdown([*others, *made(good=0.95, near=0.9)])
    lines = text[text.index("trained on") :].splitlines()
    head = "| method | 60 % of each class | 20 of each class | 5 of each class | 4 classes, asked for 2 others |"
    assert lines[2] == head
    assert lines[4] == "| `good` | **0.950** | 0.700 | 0.700 | 0.700 |"
    assert lines[5] == "| `near` | 0.900 | **0.800** | **0.800** | **0.800** |"


def test_the_picture_leaves_out_what_is_far_below():
    titles = {name: name.upper() for name in ("bad", "good", "near")}
    pictures = method_table.pictures(made(bad=0.8, good=0.95, near=0.9499), titles)
    (text,) = pictures.values()
    assert "GOOD" in text and "NEAR" in text and "BAD" not in text


def test_lines_have_bands_and_names_that_do_not_overlap():
    shown = {f"method {n}": [(16, 0.9, 0.01), (64, 0.95 + n * 1e-4, 0.002)] for n in range(10)}
    text = line_chart.lines("t", "bits", shown, 0.92)
    places = sorted(float(y) for y in re.findall(r'y="([\d.]+)">method', text))
    assert len(places) == 10
    assert all(after - before >= line_chart.LINE - 0.2 for before, after in itertools.pairwise(places))
    assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert text.count("stroke-dasharray") == 10 - len(line_chart.COLOURS)
    assert text.count("fill-opacity") == 10
    plot = text[text.index("<svg x=") :]  # which cuts off what is below 0.92, such as the first points
    assert float(re.search(r'stroke-width="1.6" d="M44.0 ([\d.]+)L', plot)[1]) > line_chart.HEIGHT - line_chart.BOTTOM


def test_runs_are_written_as_they_are_done_and_not_made_again(tmp_path, features, monkeypatch):
    write_features(tmp_path, features)
    flags = argparse.Namespace(
        features=[tmp_path / "features.npz"], methods=["lsh", "sign"], bits=[8, 16], seeds=[0, 1], few=[], unseen=False
    )
    flags.out, flags.jobs, flags.iterations = tmp_path, 1, None
    monkeypatch.setattr(methods.concurrent.futures, "ProcessPoolExecutor", lambda *_: FakePool())
    runs = list(methods.planned(flags))
    assert [(key.method, key.bits, key.seed) for _, key in runs] == [
        *(("lsh", bits, seed) for bits in (8, 16) for seed in (0, 1)),
        *(("sign", 40, seed) for seed in (0, 1)),
    ]
    found: dict[Key, Result] = {}
    methods.compute(runs[:3], found, flags)
    again = methods.read_results(tmp_path / "methods.csv")
    assert set(again) == {key for _, key in runs[:3]}
    assert all(again[key].values == found[key].values for key in again)


class FakePool:
    """Runs what is submitted at once, in this process."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def shutdown(self, **_):
        return None

    def submit(self, function, path, *rest):
        future = methods.concurrent.futures.Future()
        future.set_result(function(path, *rest))
        return future
