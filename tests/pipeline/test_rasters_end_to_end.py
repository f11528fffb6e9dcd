"""The scripts on georeferenced rasters of 16 bits: from files to polygons on a map, and mistakes in one line."""

import json

import numpy as np
import pytest
import rasterio
from graphs import write_graph
from rasterio.transform import Affine

from mhcln.demo.scenes import SCENES, draw_scene
from mhcln.storage import formats
from mhcln.storage.features import read_image_table

RANGE = "--range=0,3060"


def write_chip(path, name: str, number: int, crs: str | None = "EPSG:32633") -> None:
    """A scene of 8 bits times 12, in bands blue, green and red."""
    scene = np.asarray(draw_scene(name, number).resize((64, 64)).convert("RGB")).astype(np.uint16) * 12
    place = Affine(10, 0, 400_000 + 1000 * number, 0, -10, 5_800_000)
    profile = {"width": 64, "height": 64, "count": 3, "dtype": "uint16", "crs": crs, "transform": place}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(np.moveaxis(scene, 2, 0)[::-1])


@pytest.fixture(scope="module")
def chips(tmp_path_factory, run_script):
    """A dump folder that the scripts made of rasters, and what they printed on stderr."""
    root = tmp_path_factory.mktemp("chips")
    for name in list(SCENES)[:3]:
        for number in range(6):
            write_chip(root / "images" / name / f"{name}{number}.tif", name, number)
    write_graph(root / "model")
    dump, errors = f"--dump_dir={root / 'dump'}", []
    for script, *flags in (
        (
            "extract_features.py",
            f"--model_dir={root / 'model'}",
            f"--images_dir={root / 'images'}",
            RANGE,
            "--bands=3,2,1",
        ),
        ("dataset_generator.py", "--train_test_split=0.6"),
        ("trainer.py", "--HASH_BITS=8", "--BATCH_SIZE=9", "--ITERS=20", "--train_test_split=0.6"),
        ("eval.py", "--k=3", "--interval=3", f"--query={root / 'images' / 'beach' / 'beach1.tif'}"),
    ):
        result = run_script(script, *flags, dump)
        assert result.returncode == 0, f"{script}: {result.stderr}"
        errors.append(result.stderr)
    return root, errors


def test_nothing_is_on_stderr_and_the_recipe_is_kept(chips):
    root, errors = chips
    assert errors == ["", "", "", ""]
    images = read_image_table(root / "dump")
    assert images.extractor.endswith("; bands=3,2,1; range=0,3060")
    assert np.isfinite(images.lonlat).all()
    codes = formats.read_codes(root / "dump" / "K8")
    assert codes.lonlat.shape == (len(codes.paths), 5, 2)


def test_what_was_found_lies_on_a_map(chips):
    root, _ = chips
    queries = root / "dump" / "K8" / "queries"
    content = json.loads((queries / "query_beach1.geojson").read_text(encoding="utf-8"))
    found = json.loads((queries / "query_beach1.json").read_text(encoding="utf-8"))["found"]
    images = read_image_table(root / "dump")
    assert len(content["features"]) == len(found) == 3
    for feature, entry in zip(content["features"], found, strict=True):
        lonlat = images.lonlat[images.paths.index(entry["path"])]
        assert feature["properties"]["path"] == entry["path"]
        assert entry["centre"] == lonlat[0].tolist()
        (ring,) = feature["geometry"]["coordinates"]
        np.testing.assert_allclose(sorted(ring[:-1]), sorted(lonlat[1:].tolist()), atol=1e-7)


def test_features_of_another_reading_do_not_join_the_archive(chips, run_script, users_mistake):
    root, _ = chips
    flags = (f"--model_dir={root / 'model'}", f"--images_dir={root / 'images'}", f"--dump_dir={root / 'plain'}")
    result = run_script("extract_features.py", *flags)
    assert result.returncode == 0, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: 18 images (first ")
    assert "extract_features.py --range=LOW,HIGH stretches them" in line
    result = run_script("eval.py", f"--dump_dir={root / 'dump'}", f"--add={root / 'plain'}")
    users_mistake(result, "range=0,3060", "extract them again with the same backbone and flags")


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--range=3000,0"], "'3000,0' is not LOW,HIGH, a number and a higher one"),
        (["--range=nan,1"], "is not LOW,HIGH"),
        (["--range=5"], "is not LOW,HIGH"),
        (["--bands=4,3"], "are not three bands"),
        (["--bands=0"], "whole number of at least 1"),
        (["--preset=sentinel2", "--bands=1"], "--preset chooses the bands and the range"),
        (["--preset=landsat"], "invalid choice"),
        (["--bands=9,3,2"], "has 3 bands, --bands asks for band 9"),
        (["--preset=sentinel2"], "has no bands described as B04, B03, B02"),
    ],
)
def test_mistakes_are_one_line(chips, run_script, users_mistake, tmp_path, flags, wanted):
    root, _ = chips
    common = (f"--images_dir={root / 'images'}", f"--model_dir={root / 'model'}", f"--dump_dir={tmp_path}")
    users_mistake(run_script("extract_features.py", *common, *flags), wanted)
