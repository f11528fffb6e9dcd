"""Features of another network: the commands of mhcln/README.md on 768 wide vectors, and queries that are vectors."""

import json
import re
import shlex

import numpy as np
import pytest
from conftest import REPO_ROOT, run_here

from mhcln.storage import runs
from mhcln.storage.split import read_split

WIDTH = 768
SECTION = re.search(
    r"## Features of another network\n.*?```python\n(?P<code>.*?)```.*?```bash\n(?P<commands>.*?)```",
    (REPO_ROOT / "mhcln" / "README.md").read_text(encoding="utf-8"),
    re.DOTALL,
)
CENTRES = np.random.default_rng(0).normal(size=(3, WIDTH))
NAMES = ["forest", "harbor", "road"]


def write(folder, name: str, numbers, first: int = 0, **changes) -> None:
    """Write features as the line of the README does, of images in `images/`, in no order of classes."""
    random = np.random.default_rng(first)
    vectors = CENTRES[numbers] + 0.3 * random.normal(size=(len(numbers), WIDTH))
    paths = [f"{NAMES[label]}/{first + row}.tif" for row, label in enumerate(numbers)]
    given = {"np": np, "vectors": vectors.astype(np.float16), "labels": numbers, "paths": paths, "class_names": NAMES}
    code = SECTION["code"].replace('"mine.npz"', repr(str(folder / name)))
    exec(compile(code, "README.md", "exec"), given)
    if changes:
        with np.load(folder / name) as arrays:
            content = dict(arrays)
        np.savez(folder / name, **{**content, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which all commands of the README were run; what each of them reported."""
    folder = tmp_path_factory.mktemp("other")
    write(folder, "mine.npz", np.random.default_rng(1).permutation(np.repeat(np.arange(3), 20)))
    write(folder, "new.npz", np.array([2, 0]), first=100)
    done = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        for line in SECTION["commands"].splitlines():
            script, *flags = shlex.split(line)[1:]
            quick = ("--ITERS=200", "--BATCH_SIZE=15") if script == "trainer.py" else ()
            done[line] = run_here(script, *flags, *quick)
    assert len(done) == 5
    return folder, done


def test_the_commands_of_the_readme_make_a_run(trained):
    run = runs.read_run(trained[0] / "dump_dir" / "K32_orthohash")
    assert (run.inputs.feature_width, run.inputs.extractor[:13]) == (WIDTH, "dinov3 vitb16")
    assert re.fullmatch(r"3\.\d+\.\d+", run.outcome.keras)
    results = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))
    assert results["mAP@20_tie_aware"] > 0.9
    assert results["costs"][0]["stored"] == "768 floats"
    assert read_split(trained[0] / "dump_dir" / "split.npz").train_test_split == 0.6


def test_vectors_find_images_of_their_class_and_are_named_by_their_paths(trained):
    folder, done = trained
    result = done["python eval.py --query=new.npz"]
    assert any("2 queries in 60 images" in line for line in result.said)
    missing = "2 queries have no picture, since their images are not there, first path/to/images/road/100.tif"
    assert any(missing in line for line in result.warned)
    for name, path in (("road", "path/to/images/road/100.tif"), ("forest", "path/to/images/forest/101.tif")):
        place = folder / "dump_dir" / "K32_orthohash" / "queries" / f"query_{path[-7:-4]}.json"
        found = json.loads(place.read_text(encoding="utf-8"))
        assert found["query"] == path
        assert [entry["class"] for entry in found["found"][:5]] == [name] * 5


def test_what_was_added_is_found(trained, run_in_process):
    folder, done = trained
    assert any("2 images added to" in line for line in done["python eval.py --add=new.npz"].said)
    result = run_in_process("eval.py", "--query=new.npz", "--k=1", cwd=folder)
    assert "2 queries in 62 images" in result.stdout
    assert re.search(r"1 +0 +\w+ +\w+/\d+\.tif", result.stdout)


def test_a_folder_with_features_is_searched_with_unless_it_holds_images_too(trained, run_in_process, users_mistake):
    folder = trained[0]
    (folder / "extra").mkdir()
    write(folder, "extra/features.npz", np.array([1]), first=200)
    result = run_in_process("eval.py", "--query=extra", "--k=2", cwd=folder)
    assert "1 query in" in result.stdout, result.stderr
    (folder / "extra" / "photo.jpg").touch()
    words = "--query=extra holds features.npz and images, first photo.jpg; give extra/features.npz to search with"
    users_mistake(run_in_process("eval.py", "--query=extra", "--k=2", cwd=folder), words)
    assert run_in_process("eval.py", "--query=extra/features.npz", "--k=2", cwd=folder).returncode == 0  # as advised


def test_other_vectors_are_refused(trained, run_in_process, users_mistake):
    folder = trained[0]
    vectors = np.zeros((1, WIDTH), np.float32)
    bad = np.where(np.arange(WIDTH) == 7, np.nan, vectors).astype(np.float32)
    for name, changes, words in (
        ("maker.npz", {"extractor": "clip"}, ("has features of 'clip'", "was trained on 'dinov3 vitb16")),
        ("width.npz", {"features": vectors[:, 1:]}, ("width.npz gives features of width 767, the model takes 768",)),
        ("nan.npz", {"features": bad}, ("features of 1 images are not finite, first harbor/300.tif, row 0",)),
        ("hot.npz", {"labels": np.array([[0, 1, 0]])}, ("labels are (1, 3), not a class number for each of 1 images",)),
    ):
        write(folder, name, np.array([1]), first=300, **changes)
        users_mistake(run_in_process("eval.py", f"--query={name}", cwd=folder), name, *words)
    users_mistake(run_in_process("eval.py", "--query=none.npz", cwd=folder), "none.npz is missing")


def test_images_cannot_be_extracted_by_a_network_that_is_not_here(trained, run_in_process, users_mistake):
    (trained[0] / "photo.jpg").touch()
    result = run_in_process("eval.py", "--query=photo.jpg", cwd=trained[0])
    users_mistake(result, "made by 'dinov3 vitb16", "search with features.npz files that it made")


def test_features_that_changed_are_not_taken_for_those_that_are_there(trained, run_in_process, users_mistake):
    folder = trained[0]
    same = run_in_process("dataset_generator.py", "--features=mine.npz", cwd=folder)
    assert same.returncode == 0, same.stderr
    with np.load(folder / "mine.npz") as arrays:
        content = dict(arrays)
    np.savez(folder / "changed.npz", **{**content, "labels": (content["labels"] + 1) % 3})
    result = run_in_process("dataset_generator.py", "--features=changed.npz", cwd=folder)
    users_mistake(result, "dump_dir has other features already")
