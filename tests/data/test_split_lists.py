"""Lists of images are read as the field writes them, matched without guessing, refused with the reason."""

import codecs
from pathlib import Path

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.data.split_lists import split_from_lists
from mhcln.storage.features import read_image_table

CLASSES = ["dense residential", "harbor", "river"]
PATHS = [f"{name}/{n}.tif" for name in CLASSES for n in (1, 2)]
LABELS = np.repeat(np.arange(3), 2)


def read(folder: Path, paths: list[str] = PATHS, labels=LABELS, **lists: list[str]):
    """Write lists, `train` as train.txt, and read the split."""
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    return split_from_lists(folder, paths, np.array(labels))


FORMS = [
    "{path}",
    "./{path}",
    "{folder}/{stem}",
    "/home/me/data/{folder}/{stem}.jpg {label}",
    "D:\\data\\Images\\{folder}\\{name} {label}",
    "{path}\t{label}",
    "{path},{label}",
    '"{path}";"{folder}"',
    "{path} kind{label}",
    "{path},{label},{folder},600",
    "{path} {one_hot}",
    "{folder}/{stem} {one_hot}",
    "{path} [{one_hot}]",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("header", [[], ["image_path,label"]], ids=["", "header"])
def test_names_are_read_as_published_code_writes_them(tmp_path, form, header):
    lines = []
    for path, label in zip(PATHS, LABELS.tolist(), strict=True):
        one_hot = " ".join(str(int(label == k)) for k in range(3))
        folder, name = path.split("/")
        lines.append(form.format(path=path, folder=folder, name=name, stem=name[0], label=label, one_hot=one_hot))
    split = read(tmp_path, train=[*header, *lines[::2][::-1], ""], test=[*header, *lines[1::2]])
    assert (split.train_paths, split.test_paths) == (PATHS[::2], PATHS[1::2])
    assert (split.rule, split.train_test_split) == ("lists", 0.5)


def test_file_names_may_do_without_folders_and_have_blanks(tmp_path):
    paths = ["a b/x 1.jpg", "a b/x 2.jpg", "c/x, 3.jpg", "c/x 10.v2.jpg"]
    split = read(tmp_path, paths, [0, 0, 1, 1], train=["x 1.jpg 0", "c/x, 3.jpg 1"], test=["x 2", "x 10.v2 1"])
    assert (split.train_paths, split.test_paths) == (paths[::2], paths[1::2])


def test_an_ending_or_a_whole_path_decides_between_images(tmp_path):
    paths = ["a/1.tif", "a/1.jpg", "b/a/1.jpg", "a/1.tif.jpg"]
    split = read(tmp_path, paths, [0, 0, 1, 0], train=["a/1.jpg", "x/a/1.tif.jpg"], test=["b/a/1", "a/1.tif"])
    assert (split.train_paths, split.test_paths) == (["a/1.jpg", "a/1.tif.jpg"], ["a/1.tif", "b/a/1.jpg"])


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (["harbor/1.tif", "harbor/3.tif 1"], r"train\.txt names harbor/3\.tif, which fits no image"),
        (["sea/river/3.tif"], r"names sea/river/3\.tif, which fits no image"),
        (["harbor/only.tif"], "which fits no image"),  # it lies in river/
        (["x 9.tif 0"], r"names x 9\.tif, which fits no image"),  # and is not taken for x.tif
        (
            ["1.tif 0"],
            r"names 1\.tif, which fits 3 images; write more of the path, with its ending: dense residential/1",
        ),
        (["harbor/scene 7"], "which fits 2 images; .*: harbor/scene.tif, harbor/scene 7.tif"),
        (["harbor/1.tif", "x/harbor/1"], r"names harbor/1\.tif twice"),
        (["image,label"], r"train\.txt names no image"),
        ([""], r"train\.txt names no image; it should name one a line, as text in UTF-8"),
        (
            ["harbor/1.tif 0", "river/1.tif 0"],
            r"label 0 of river/1\.tif does not fit its class folder, see harbor/1\.tif",
        ),
        (["harbor/1.tif 0", "harbor/2.tif 1"], r"label 1 of harbor/2\.tif does not fit"),
        (["harbor/1.tif", "river/2.tif", "1.tif"], "which fits 3 images"),
        (["river/2.tif"], r"train\.txt and test\.txt have 1 images on both sides, first river/2\.tif"),
    ],
)
def test_lists_that_do_not_fit_the_images_are_refused(tmp_path, train, message):
    paths = [*PATHS, "river/only.tif", "river/x.tif", "harbor/scene.tif", "harbor/scene 7.tif"]
    with pytest.raises(UserError, match=message):
        read(tmp_path, paths, [*LABELS, 2, 2, 1, 1], train=train, test=["river/2.tif"])


def test_labels_of_images_without_classes_are_ignored(tmp_path):
    split = read(tmp_path, ["1.tif", "2.tif"], [-1, -1], train=["1.tif 0"], test=["2.tif 1"])
    assert (split.train_paths, split.test_paths) == (["1.tif"], ["2.tif"])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings_and_ends_of_lines(tmp_path, encoding, line_end):
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""
    for name, side in (("train.csv", PATHS[::2]), ("TEST.TSV", PATHS[1::2])):
        (tmp_path / name).write_bytes(mark + line_end.join(side).encode(encoding))
    assert read(tmp_path).train_paths == PATHS[::2]


def test_missing_and_binary_lists_are_reported(tmp_path):
    with pytest.raises(UserError, match=r"train\.txt is missing; --split_dir takes a folder with"):
        read(tmp_path / "none")
    with pytest.raises(UserError, match=r"test\.txt is missing"):
        read(tmp_path, database=PATHS)
    (tmp_path / "test.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"test\.txt names no image; .* as text in UTF-8 or UTF-16"):
        read(tmp_path)


def test_lists_of_a_database_and_of_validation(tmp_path):
    split = read(tmp_path, Database=PATHS[:3], query=PATHS[3:4])
    assert (split.train_paths, split.test_paths, split.database_paths) == (PATHS[:3], PATHS[3:4], PATHS[:3])
    with pytest.raises(UserError, match=r"Database\.txt and val\.txt have 1 images on both sides"):
        read(tmp_path, val=PATHS[:1])
    split = read(tmp_path, train=PATHS[:1], val=PATHS[1:2])  # validation images that are not trained on may be searched
    assert (split.train_paths, split.validation_paths, split.database_paths) == (PATHS[:1], PATHS[1:2], PATHS[:3])
    for lists, files in (
        ({"val": PATHS[:1]}, r"train\.txt and val\.txt"),
        ({"val": PATHS[3:4]}, r"query\.txt and val\.txt"),
        ({"val": PATHS[4:5], "query": PATHS[2:3]}, r"Database\.txt and query\.txt"),
    ):
        with pytest.raises(UserError, match=f"{files} have 1 images on both sides"):
            read(tmp_path, **lists)
    with pytest.raises(UserError, match=r"query\.txt and test\.txt are two lists of the same part"):
        read(tmp_path, test=PATHS[4:])


def test_names_that_repeat_in_each_of_many_classes_take_no_long_time(tmp_path):
    paths = [f"class {c}/{n}.jpg" for c in range(1000) for n in range(20)]
    lines = [f"/x/{path}" for path in paths]
    assert read(tmp_path, paths, np.arange(20_000) // 20, train=lines[::2], test=lines[1::2]).train_paths == paths[::2]


@pytest.mark.parametrize(
    ("name", "source", "train", "test"), [("UC_Merced", "ucmd", 1680, 420), ("AID", "aid", 6000, 4000)]
)
def test_published_lists_fit_the_real_data(shared, tmp_path, name, source, train, test):
    (tmp_path / "features.npz").symlink_to((shared / "data" / "features" / f"{source}.npz").resolve())
    images = read_image_table(tmp_path)
    split = split_from_lists(shared / "data" / "splits" / name, images.paths, images.labels)
    assert (len(split.train_paths), len(split.test_paths)) == (train, test)
    listed = (shared / "data" / "splits" / name / "test.txt").read_text().split()[::2]
    assert {Path(path).stem for path in split.test_paths} == {Path(line).stem for line in listed}
