"""The scripts on georeferenced rasters of 16 bits: from files to polygons on a map, and wrong flags in one line."""

import json

import numpy as np
import pytest
import rasterio
from graphs import write_graph
from rasterio.transform import Affine

from mhcln.console import UserError
from mhcln.data.reading import Reading
from mhcln.demo.scenes import SCENES, draw_scene
from mhcln.storage.features import read_image_table


def write_chip(path, name: str, number: int) -> None:
    """A scene of 8 bits times 12, in bands blue, green and red."""
    scene = np.asarray(draw_scene(name, number).resize((64, 64)).convert("RGB")).astype(np.uint16) * 12
    transform = Affine(10, 0, 400_000 + 1000 * number, 0, -10, 5_800_000)
    profile = {"width": 64, "height": 64, "count": 3, "dtype": "uint16", "crs": "EPSG:32633", "transform": transform}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(np.moveaxis(scene, 2, 0)[::-1])


def test_what_is_found_lies_on_a_map(tmp_path, run_script, run_in_process):
    images, dump = tmp_path / "images", tmp_path / "dump"
    for name in list(SCENES)[:3]:
        for number in range(6):
            write_chip(images / name / f"{name}{number}.tif", name, number)
    model = write_graph(tmp_path / "model").parent
    for script, *flags in (
        ("extract_features.py", f"--model_dir={model}", f"--images_dir={images}", "--range=0,3060", "--bands=3,2,1"),
        ("dataset_generator.py", "--train_test_split=0.6"),
        ("trainer.py", "--HASH_BITS=8", "--BATCH_SIZE=9", "--ITERS=20", "--train_test_split=0.6"),
        ("eval.py", "--k=3", f"--query={images / 'beach' / 'beach1.tif'}"),
    ):
        computes = script in ("extract_features.py", "trainer.py")  # on a start of TensorFlow, which prints nothing
        result = (run_script if computes else run_in_process)(script, *flags, f"--dump_dir={dump}")
        assert (result.returncode, result.stderr) == (0, "")
    table = read_image_table(dump)
    assert table.extractor.endswith("; bands=3,2,1; range=0,3060")
    assert np.isfinite(table.lonlat).all()
    queries = dump / "K8" / "queries"
    content = json.loads((queries / "query_beach1.geojson").read_text(encoding="utf-8"))
    found = json.loads((queries / "query_beach1.json").read_text(encoding="utf-8"))["found"]
    assert len(content["features"]) == len(found) == 3
    for feature, entry in zip(content["features"], found, strict=True):
        lonlat = table.lonlat[table.paths.index(entry["path"])]
        assert feature["properties"]["path"] == entry["path"]
        assert entry["centre"] == lonlat[0].tolist()
        (ring,) = feature["geometry"]["coordinates"]
        np.testing.assert_allclose(sorted(ring[:-1]), sorted(lonlat[1:].tolist()), atol=1e-7)


def test_a_preset_chooses_bands_and_range():
    with pytest.raises(UserError, match="leave --bands and --range out"):
        Reading((1,), None, "sentinel2")
