"""Extraction into a folder that holds features already: only what changed is computed, the rest stays bit for bit."""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from factories import draw_images
from graphs import opened
from PIL import Image
from rasterio.transform import from_origin

from mhcln.backbone.backbone import Backbone
from mhcln.console import UserError
from mhcln.data import folders
from mhcln.data.reading import Reading
from mhcln.pipeline.extract import extract
from mhcln.pipeline.extraction import ExtractOptions
from mhcln.pipeline.feature_batches import ThisProcess
from mhcln.storage.features import Features, read_features, write_features

COUNT = 60


@pytest.fixture
def images_dir(tmp_path) -> Path:
    (tmp_path / "images" / "port").mkdir(parents=True)
    draw_images(tmp_path / "images" / "port", COUNT)
    return tmp_path / "images"


class Counting:
    """A backbone that counts the images that it computes."""

    def __init__(self, backbone: Backbone, fails_at: int | None = None) -> None:
        self.sizes: list[int] = []

        def network(images):
            if len(self.sizes) == fails_at:
                raise KeyboardInterrupt
            self.sizes.append(len(images))
            return backbone.network(images)

        self.backbone = dataclasses.replace(backbone, network=network)


def extracted(images_dir, backbone, dump_dir, console, skip=False, batch_size=8) -> tuple[Features, int]:
    counting = backbone if isinstance(backbone, Counting) else Counting(backbone)
    options = ExtractOptions(images_dir, dump_dir, batch_size=batch_size, skip_broken=skip)
    extract(folders.scan(images_dir), ThisProcess(counting.backbone, console), options, console)
    return read_features(dump_dir), sum(counting.sizes)


def rows_of(content: Features) -> dict[str, bytes]:
    return {path: vector.tobytes() for path, vector in zip(content.images.paths, content.vectors, strict=True)}


def test_an_added_a_changed_and_a_removed_image_cost_only_themselves(tmp_path, images_dir, backbone, console):
    dump = tmp_path / "dump"
    before, count = extracted(images_dir, backbone, dump, console)
    assert count == COUNT
    Image.new("RGB", (20, 20), "red").save(images_dir / "port" / "aaa.png")
    added, count = extracted(images_dir, backbone, dump, console)
    assert count == 1
    assert f"{COUNT} of {COUNT + 1} images are extracted already" in console.said
    assert added.images.paths == folders.scan(images_dir).paths
    assert rows_of(added).items() >= rows_of(before).items()
    Image.new("RGB", (20, 20), "blue").save(images_dir / "port" / "aaa.png")
    changed, count = extracted(images_dir, backbone, dump, console)
    assert count == 1
    assert rows_of(changed)["port/aaa.png"] != rows_of(added)["port/aaa.png"]
    (images_dir / "port" / "aaa.png").unlink()
    removed, count = extracted(images_dir, backbone, dump, console)
    assert count == 0
    assert rows_of(removed) == rows_of(before)
    assert removed.images.inputs == before.images.inputs
    assert removed.images.software == before.images.software
    extracted(images_dir, backbone, dump, console)
    assert console.said[-1].endswith("nothing to do")


def test_a_file_with_another_status_time_is_compared_by_its_content(tmp_path, images_dir, backbone, console):
    dump, path = tmp_path / "dump", images_dir / "port" / "aaa.bmp"
    Image.new("RGB", (20, 20), "red").save(path)
    before, _ = extracted(images_dir, backbone, dump, console)
    status = path.stat()
    path.chmod(0o600)
    assert extracted(images_dir, backbone, dump, console)[1] == 0
    Image.new("RGB", (20, 20), "blue").save(path)  # a file of the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after, count = extracted(images_dir, backbone, dump, console)
    assert count == 1
    assert rows_of(after)["port/aaa.bmp"] != rows_of(before)["port/aaa.bmp"]
    os.utime(path, ns=(0, 0))
    assert extracted(images_dir, backbone, dump, console)[1] == 1


def test_another_class_for_an_image_computes_it_alone(tmp_path, images_dir, backbone, console):
    before, _ = extracted(images_dir, backbone, tmp_path / "dump", console)
    (images_dir / "beach").mkdir()
    moved = sorted((images_dir / "port").iterdir())[0]
    moved.rename(images_dir / "beach" / moved.name)
    after, count = extracted(images_dir, backbone, tmp_path / "dump", console)
    assert count == 1
    assert after.images.class_names == ["beach", "port"]
    assert after.images.labels.tolist() == [0] + [1] * (COUNT - 1)
    assert np.array_equal(after.vectors[1:], before.vectors[1:])


def test_growing_that_is_interrupted_goes_on(tmp_path, images_dir, backbone, console):
    dump = tmp_path / "dump"
    before, _ = extracted(images_dir, backbone, dump, console)
    old = (dump / "features.npz").read_bytes()
    (images_dir / "new").mkdir()
    draw_images(images_dir / "new", 20)
    with pytest.raises(KeyboardInterrupt):
        extracted(images_dir, Counting(backbone, fails_at=2), dump, console)
    assert (dump / "features.npz").read_bytes() == old
    after, count = extracted(images_dir, backbone, dump, console)
    assert count == 4
    assert "continuing an interrupted extraction: 16 of 20 images are done" in console.said
    assert rows_of(after).items() >= rows_of(before).items()
    assert len(after.images.paths) == COUNT + 20
    assert not (dump / "extract.part").exists()


def test_another_recipe_and_a_file_without_stamps_compute_all(tmp_path, images_dir, model_dir, backbone, console):
    dump = tmp_path / "dump"
    content, _ = extracted(images_dir, backbone, dump, console)
    other = opened(model_dir, reading=Reading(value_range=(0, 3000)))
    assert extracted(images_dir, other, dump, console)[1] == COUNT
    for stamps in (np.empty((0, 3), np.int64), content.images.stamps[1:]):
        table = dataclasses.replace(content.images, stamps=stamps, inputs="of old")
        write_features(dump, Features(content.vectors, table))
        assert extracted(images_dir, backbone, dump, console)[1] == COUNT


def test_what_was_skipped_is_tried_again(tmp_path, images_dir, backbone, console):
    dump = tmp_path / "dump"
    bad = images_dir / "port" / "bad.png"
    bad.write_bytes(b"no image")
    assert extracted(images_dir, backbone, dump, console, skip=True)[0].images.skipped == 1
    (images_dir / "port" / "more.png").write_bytes(sorted((images_dir / "port").glob("image*.png"))[0].read_bytes())
    content, count = extracted(images_dir, backbone, dump, console, skip=True)
    assert (content.images.skipped, count) == (1, 2)
    assert "bad.png" in (dump / "skipped.csv").read_text(encoding="utf-8")
    with pytest.raises(UserError, match=re.escape("1 of 62 images cannot be read")):
        extracted(images_dir, backbone, dump, console)
    Image.new("RGB", (9, 9)).save(bad)
    content, count = extracted(images_dir, backbone, dump, console, skip=True)
    assert (content.images.skipped, count) == (0, 1)
    assert not (dump / "skipped.csv").exists()


def write_raster(path: Path, zone: int, kind: str = "uint8") -> None:
    transform = from_origin(500_000, 4_000_000 + 100 * zone, 10, 10)
    profile = {"width": 20, "height": 20, "count": 3, "dtype": kind, "transform": transform, "photometric": "rgb"}
    with rasterio.open(path, "w", driver="GTiff", crs=f"EPSG:{32600 + zone}", **profile) as file:
        file.write(np.full((3, 20, 20), zone, kind))


def test_where_images_lie_is_kept_through_growth_and_interruption(tmp_path, images_dir, backbone, console):
    dump = tmp_path / "dump"
    assert extracted(images_dir, backbone, dump, console)[0].images.lonlat.shape == (0, 5, 2)
    for zone in range(1, 19):
        write_raster(images_dir / "port" / f"zone{zone:02}.tif", zone)
    with pytest.raises(KeyboardInterrupt):
        extracted(images_dir, Counting(backbone, fails_at=1), dump, console)
    images = extracted(images_dir, backbone, dump, console)[0].images
    assert images.lonlat.shape == (COUNT + 18, 5, 2)
    for zone in range(1, 19):
        lon, lat = images.lonlat[images.paths.index(f"port/zone{zone:02}.tif"), 0]
        assert lon == pytest.approx(-183 + 6 * zone, abs=0.01)
        assert lat == pytest.approx(36.1, abs=0.1)
    assert np.isfinite(images.lonlat).all(axis=(1, 2)).sum() == 18
    write_raster(images_dir / "port" / "zzz.tif", 30)
    grown = extracted(images_dir, backbone, dump, console)[0].images
    assert np.array_equal(grown.lonlat[:-1], images.lonlat, equal_nan=True)


def test_floats_of_two_scales_stop_the_extraction_now_or_later(tmp_path, images_dir, backbone, console):
    scene = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    tifffile.imwrite(images_dir / "port" / "unit.tif", scene)
    content, _ = extracted(images_dir, backbone, tmp_path / "dump", console)
    assert content.images.float_scale == "unit"
    assert any("floats, taken as 0 to 1" in line for line in console.warned)
    tifffile.imwrite(images_dir / "port" / "bytes.tif", scene * 255)
    for dump in (tmp_path / "dump", tmp_path / "new"):
        with pytest.raises(UserError, match="float images are of two scales"):
            extracted(images_dir, backbone, dump, console)
