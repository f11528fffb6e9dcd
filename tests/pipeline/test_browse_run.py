"""`eval.py --browse`: what it writes, and what it takes from the evaluation."""

import base64
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from factories import write_images, write_run

from mhcln.pipeline import browse
from mhcln.storage import layout
from mhcln.storage.coded_images import read_codes, write_codes


@pytest.fixture
def dump(tmp_path):
    codes = write_run(tmp_path / "dump", run={"images_dir": str(tmp_path / "images")})
    write_images(tmp_path / "images", codes)
    return tmp_path / "dump"


def data_of(folder):
    text = (folder / "browse" / "index.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def test_the_page_has_the_scores_of_the_evaluation_and_is_linked_from_its_report(dump, evaluate):
    assert evaluate(f"--dump_dir={dump}", "--k=5").returncode == 0
    assert "browse/index.html" not in (dump / "K8" / "report.html").read_text()
    result = evaluate(f"--dump_dir={dump}", "--browse")
    assert result.returncode == 0, result.stderr
    assert "images to browse: " in result.stdout
    assert "browse/index.html" in (dump / "K8" / "report.html").read_text()
    data = data_of(dump / "K8")
    with (dump / "K8" / layout.QUERY_RESULTS).open() as lines:
        rows = [line.split(",") for line in lines][1:]
    assert {data["paths"][row]: score for row, score in data["scores"]} == {row[1]: float(row[3]) for row in rows}
    assert (data["scoreName"], data["report"]) == ("AP@5", True)
    assert evaluate(f"--dump_dir={dump}", "--k=5").returncode == 0  # which writes the report anew
    assert "browse/index.html" in (dump / "K8" / "report.html").read_text()


def test_images_that_are_gone_are_said(dump, evaluate, tmp_path):
    (tmp_path / "images" / "beach" / "06.png").unlink()
    result = evaluate(f"--dump_dir={dump}", "--browse", "--archive=train")
    assert result.returncode == 0
    assert f"1 of 6 thumbnails are grey: {tmp_path / 'images' / 'beach' / '06.png'}: missing" in result.stderr
    assert "no queries by their average precision" in result.stdout
    shutil.rmtree(tmp_path / "images")
    result = evaluate(f"--dump_dir={dump}", "--browse", f"--out={tmp_path / 'elsewhere'}")
    assert "18 of 18 thumbnails are grey" in result.stderr
    assert "with --images_dir" in result.stderr
    assert data_of(tmp_path / "elsewhere")["scores"] == []


def test_scores_of_other_codes_are_left_out(dump, evaluate):
    assert evaluate(f"--dump_dir={dump}", "--k=5").returncode == 0
    shutil.copytree(dump, dump.parent / "other")
    other = dump.parent / "other" / "K8"
    shutil.rmtree(other)
    write_run(dump.parent / "other", run={}, seed=4)
    for name in (layout.RESULTS, layout.QUERY_RESULTS):
        shutil.copy(dump / "K8" / name, other / name)
    result = evaluate(f"--dump_dir={dump.parent / 'other'}", "--browse")
    assert result.returncode == 0
    assert "is of other codes and left out" in result.stderr
    assert data_of(other)["scores"] == []


def test_mistakes_are_one_line(dump, evaluate, users_mistake):
    assert evaluate(f"--dump_dir={dump}", "--k=5").returncode == 0
    for damaged in ("index,path,class,AP@5\nx,y,z,w\n", "index\n", ""):
        (dump / "K8" / layout.QUERY_RESULTS).write_text(damaged)
        done = evaluate(f"--dump_dir={dump}", "--browse")
        users_mistake(done, "results.csv is damaged", "make it again with eval.py")


def test_georeferences_of_images_are_on_the_page(dump, evaluate):
    assert evaluate(f"--dump_dir={dump}", "--browse").returncode == 0
    assert data_of(dump / "K8")["places"] == ""
    codes = read_codes(dump / "K8")
    lonlat = np.tile([13.25, -7.5], (len(codes.paths), 5, 1)) + np.arange(len(codes.paths))[:, None, None] / 8
    write_codes(dump / "K8", dataclasses.replace(codes, lonlat=lonlat))
    assert evaluate(f"--dump_dir={dump}", "--browse").returncode == 0
    places = np.frombuffer(base64.b64decode(data_of(dump / "K8")["places"]), "<i4").reshape(-1, 2)
    assert places / 1e7 == pytest.approx(lonlat[:, 0])


def test_more_images_than_a_page_holds_are_refused(dump, evaluate, monkeypatch, users_mistake):
    monkeypatch.setattr(browse, "MOST_IMAGES", 17)
    result = evaluate(f"--dump_dir={dump}", "--browse")
    users_mistake(result, f"{dump / 'K8'} has 18 images in --archive=all, a page holds 17 at most; browse its own with")
    assert evaluate(f"--dump_dir={dump}", "--browse", "--archive=test").returncode == 0
