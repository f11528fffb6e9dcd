"""Lists of images are read in the forms that people give them, matched without guessing, refused with the reason."""

import codecs
from pathlib import Path

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.data.split_lists import split_from_lists
from mhcln.storage.features import read_image_table

CLASSES = ["harbor", "dense residential", "river"]
PATHS = [f"{name}/{n}.tif" for name in CLASSES for n in (1, 2)]
LABELS = np.repeat(np.arange(3), 2)
NUMBERS = dict(zip(PATHS, LABELS.tolist(), strict=True))


def images(counts: list[int]) -> tuple[list[str], np.ndarray]:
    paths = [f"c{label:02}/c{label:02}_{i}.tif" for label, count in enumerate(counts) for i in range(count)]
    return paths, np.repeat(np.arange(len(counts)), counts).astype(np.int32)


def one_hot(path: str, between: str = " ") -> str:
    return between.join(str(int(NUMBERS[path] == label)) for label in range(3))


def read(folder: Path):
    return split_from_lists(folder, PATHS, LABELS, CLASSES)


def write_lists(folder: Path, train: list[str], test: list[str]) -> Path:
    (folder / "train.txt").write_text("\n".join(train) + "\n", encoding="utf-8")
    (folder / "test.txt").write_text("\n".join(test), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "form", ["{path}", "{name}", "{stem}", "{name} {label}", "{folder}/{stem}", "x/y/{stem}.jpg {label}"]
)
def test_lists_match_with_and_without_folder_ending_and_label(tmp_path, form):
    paths, labels = images([4, 4])
    lines = [
        form.format(path=p, name=Path(p).name, stem=Path(p).stem, folder=Path(p).parent, label=label + 7)
        for p, label in zip(paths, labels, strict=True)
    ]
    split = split_from_lists(write_lists(tmp_path, lines[::2][::-1], lines[1::2]), paths, labels)
    assert (split.train_paths, split.test_paths) == (paths[::2], paths[1::2])
    assert (split.rule, split.train_test_split) == ("lists", 0.5)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (["a/1", "a/2"], ["b/1", "b/2", "a/1"], "1 images on both sides, first a/1.jpg"),
        (["a/1", "a/3"], ["b/1", "b/2"], r"train.txt names a/3, which fits no image"),
        (["1", "a/2"], ["b/1", "b/2"], "names 1, which fits 2 images; name its folder"),
        (["a/1 0", "a/2 0"], ["b/1 0", "b/2 1"], "labels in the lists do not fit"),
        (["a/1", "a/1", "a/2"], ["b/1", "b/2"], "names a/1.jpg twice"),
    ],
)
def test_bad_lists_are_refused(tmp_path, train, test, message):
    paths, labels = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"], np.array([0, 0, 1, 1])
    with pytest.raises(UserError, match=message):
        split_from_lists(write_lists(tmp_path, train, test), paths, labels)


def test_file_names_in_lists_may_have_blanks(tmp_path):
    paths, labels = ["a b/x 1.jpg", "a b/x 2.jpg"], np.array([0, 0])
    split = split_from_lists(write_lists(tmp_path, ["x 1.jpg 0"], ["x 2.jpg"]), paths, labels)
    assert split.train_paths == ["a b/x 1.jpg"]


def test_missing_and_binary_lists_are_reported(tmp_path):
    with pytest.raises(UserError, match=r"train.txt is missing"):
        split_from_lists(tmp_path, ["a"], np.array([0]))
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a text file"):
        split_from_lists(tmp_path, ["a"], np.array([0]))


@pytest.mark.parametrize(("name", "train", "test"), [("UC_Merced", 1680, 420), ("AID", 6000, 4000)])
def test_published_lists_fit_the_real_data(shared, tmp_path, name, train, test):
    source = "ucmd" if name == "UC_Merced" else "aid"
    (tmp_path / "features.npz").symlink_to((shared / "data" / "features" / f"{source}.npz").resolve())
    images = read_image_table(tmp_path)
    split = split_from_lists(shared / "data" / "splits" / name, images.paths, images.labels, images.class_names)
    assert (len(split.train_paths), len(split.test_paths)) == (train, test)


FORMS = {
    "one-hot": lambda path: f"{path} {one_hot(path)}",
    "one-hot with commas": lambda path: f"{path} {one_hot(path, ',')}",
    "one-hot as a list": lambda path: f"{path} [{one_hot(path, ', ')}]",
    "one-hot of fractions": lambda path: f"{path} {one_hot(path, '.0 ')}.0",
    "tabs": lambda path: f"{path}\t{NUMBERS[path]}",
    "commas": lambda path: f"{path},{NUMBERS[path]}",
    "quotes": lambda path: f'"{path}", "{NUMBERS[path]}"',
    "names of classes": lambda path: f"{path} {path.split('/')[0].title()}",
    "number and name": lambda path: f"{path},{NUMBERS[path]},{path.split('/')[0].replace(' ', '_')}",
    "other names": lambda path: f"{path} kind{NUMBERS[path]}",
    "drive": lambda path: "D:\\data\\Images\\" + path.replace("/", "\\") + f" {NUMBERS[path]}",
    "absolute": lambda path: f"/home/me/data/{path.removesuffix('.tif')}.jpg {NUMBERS[path]}",
    "relative": lambda path: f"./{path}",
    "one-hot without ending": lambda path: f"{path.removesuffix('.tif')} {one_hot(path)}",
}


@pytest.mark.parametrize("form", FORMS)
def test_names_and_labels_are_read_as_published_code_writes_them(tmp_path, form):
    lines = [FORMS[form](path) for path in PATHS]
    split = read(write_lists(tmp_path, lines[::2], lines[1::2]))
    assert (split.train_paths, split.test_paths) == (PATHS[::2], PATHS[1::2])


@pytest.mark.parametrize("form", ["one-hot", "names of classes", "number and name", "tabs", "commas"])
def test_a_label_that_contradicts_its_folder_is_refused(tmp_path, form):
    lines = [FORMS[form](path) for path in PATHS]
    _, _, wrong = FORMS[form](PATHS[4]).partition(PATHS[4])
    lines[3] = PATHS[3] + wrong
    with pytest.raises(UserError, match="labels in the lists do not fit the class folders"):
        read(write_lists(tmp_path, lines[::2], lines[1::2]))


def test_names_of_classes_that_are_exchanged_throughout_are_refused(tmp_path):
    swapped = {"harbor": "river", "river": "harbor"}
    lines = [f"{path} {swapped.get(path.split('/')[0], '')}" for path in PATHS]
    with pytest.raises(UserError, match=r"river for harbor/2\.tif"):
        read(write_lists(tmp_path, lines[::2], lines[1::2]))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings_and_ends_of_lines(tmp_path, encoding, line_end):
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""
    for name, side in (("train", PATHS[::2]), ("test", PATHS[1::2])):
        (tmp_path / f"{name}.txt").write_bytes(mark + line_end.join(side).encode(encoding))
    assert read(tmp_path).train_paths == PATHS[::2]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (",Filename,Label,ClassName", lambda number, path: f'{number},{path},{NUMBERS[path]},"{path.split("/")[0]}"'),
        ("image_path;label;width", lambda _, path: f"{path};{NUMBERS[path]};600"),
        ("path\tharbor\tdense\triver", lambda _, path: f"{path}\t{one_hot(path, chr(9))}"),
        ("image label", lambda _, path: f"{path} {NUMBERS[path]}"),
        ("filename", lambda _, path: path),
    ],
)
def test_tables_with_a_header(tmp_path, header, row):
    for name, side in (("train", PATHS[::2]), ("test", PATHS[1::2])):
        lines = [header, *(row(number, path) for number, path in enumerate(side))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")
    split = read(tmp_path)
    assert (split.train_paths, split.test_paths) == (PATHS[::2], PATHS[1::2])
    if header != "filename":
        moved = row(0, PATHS[0]).replace(PATHS[0], PATHS[4]).replace("harbor", "river")
        lines = [header, *(row(number, path) for number, path in enumerate(PATHS[:4:2])), moved]
        (tmp_path / "train.csv").write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(UserError, match=r"do not fit the class folders|several labels"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("harbor/1.tif 1 1 0", "gives harbor/1.tif 2 of several labels, but an image has one class here"),
        ("harbor/1.tif 0 0 0", "gives harbor/1.tif none of several labels"),
        ("harbor/1.tif 3 7", "gives harbor/1.tif 2 of several labels"),
        ("1.tif 0", "names 1.tif, which fits 3 images; name its folder: dense residential/1.tif, harbor/1.tif"),
        ("sea/river/3.tif", "names sea/river/3.tif, which fits no image"),
        ("harbor/only.tif 0", "which fits no image"),
        ("harbor/1.tif harbor/2.tif", "can be read as harbor/1.tif .* and as"),
    ],
)
def test_lines_with_no_meaning_or_two_are_refused(tmp_path, line, message):
    paths, labels = [*PATHS, "river/only.tif"], [*LABELS, 2]
    write_lists(tmp_path, [line], ["river/2.tif"])
    with pytest.raises(UserError, match=message):
        split_from_lists(tmp_path, [*paths, "harbor/1.tif harbor/2.tif"], np.array([*labels, 0]), CLASSES)


def test_one_label_on_some_lines_and_several_on_others_are_several_labels(tmp_path):
    with pytest.raises(UserError, match="gives some images 1 and others 2 numbers"):
        read(write_lists(tmp_path, ["harbor/1.tif 0", "river/1.tif 0 1"], ["river/2.tif"]))


def test_lists_of_a_database_and_of_validation(tmp_path):
    parts = {"Database": PATHS[:3], "query": PATHS[3:4]}
    for name, side in parts.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(side), encoding="utf-8")
    split = read(tmp_path)
    assert (split.train_paths, split.test_paths, split.database_paths) == (PATHS[:3], PATHS[3:4], PATHS[:3])
    (tmp_path / "train.txt").write_text(PATHS[0], encoding="utf-8")
    (tmp_path / "val.txt").write_text(PATHS[4], encoding="utf-8")
    split = read(tmp_path)
    assert (split.train_paths, split.validation_paths, split.database_paths) == (PATHS[:1], PATHS[4:5], PATHS[:3])
    (tmp_path / "val.txt").write_text(PATHS[0], encoding="utf-8")
    with pytest.raises(UserError, match=r"train.txt and val.txt have 1 images on both sides"):
        read(tmp_path)
    (tmp_path / "test.txt").write_text(PATHS[4], encoding="utf-8")
    with pytest.raises(UserError, match=r"query.txt and test.txt are two lists of the same part"):
        read(tmp_path)


def test_lists_of_many_classes_take_no_long_time(tmp_path):
    """Names that repeat in each class, with labels of as many numbers, are found without a search of all."""
    classes = [f"class {number}" for number in range(200)]
    paths = [f"{name}/{n}.jpg" for name in classes for n in range(10)]
    labels = np.repeat(np.arange(200), 10)
    lines = [
        f"/x/{path} " + " ".join(str(int(label == k)) for k in range(200))
        for path, label in zip(paths, labels, strict=True)
    ]
    write_lists(tmp_path, lines[::2], lines[1::2])
    assert split_from_lists(tmp_path, paths, labels, classes).train_paths == paths[::2]


def test_a_folder_name_that_two_classes_share_but_for_its_spelling_contradicts_nothing(tmp_path):
    write_lists(tmp_path, ["a b/1.tif a_b"], ["ab/1.tif ab", "+/1.tif"])
    split = split_from_lists(tmp_path, ["a b/1.tif", "ab/1.tif", "+/1.tif"], np.arange(3), ["a b", "ab", "+"])
    assert split.test_paths == ["ab/1.tif", "+/1.tif"]


def test_labels_of_images_without_classes_are_not_looked_at(tmp_path):
    write_lists(tmp_path, ["1.tif 0"], ["2.tif 1"])
    split = split_from_lists(tmp_path, ["1.tif", "2.tif"], np.array([-1, -1]))
    assert (split.train_paths, split.test_paths) == (["1.tif"], ["2.tif"])
