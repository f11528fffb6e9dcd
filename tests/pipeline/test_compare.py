"""`eval.py --table`: which runs are in the table, and what it refuses."""

import csv
import dataclasses
import io

from factories import write_run

from mhcln.data import datasets
from mhcln.storage import text_files
from mhcln.storage.coded_images import write_codes
from mhcln.storage.results import read_results
from mhcln.storage.source import write_json_content


def test_the_table_holds_every_finished_run_once(tmp_path, evaluate):
    for seed in (0, 1):
        write_run(tmp_path, f"K8_seed{seed}", seed=seed, run={"seed": seed, "iterations": 5, "dataset": "UCMD"})
    write_run(tmp_path, "leaky", seed=2, run={"contaminated": 5, "dataset": "UCMD"})
    write_run(tmp_path, "copy", seed=0, run={"seed": 0, "iterations": 5, "dataset": "UCMD"})
    write_run(tmp_path, "half", seed=3, run={"done": False})
    flags = [f"--dump_dir={tmp_path}", "--k=5", "--table"]
    done = evaluate(*flags)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "table.md").read_text().strip() in done.stdout
    lines = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    counts = {(line["split"], line["count"]) for line in lines if line["metric"] == "mAP@5"}
    assert counts == {("clean", "2"), ("CONTAMINATED", "1")}
    assert "copy has the same codes as K8_seed0" in done.stderr
    assert "half is not trained to the end" in done.stderr
    assert f"written to {tmp_path / 'table.md'} and {tmp_path / 'table.csv'}" in done.stdout
    # Without results there are none afterwards: the table writes nothing into the runs.
    assert not list(tmp_path.glob("*/results.json"))


def test_the_table_keeps_each_data_set_together(tmp_path, evaluate):
    for name, dataset in (("a", "AID"), ("b", "UCMD")):
        write_run(tmp_path, name, seed=len(name + dataset), per_class=12, run={"dataset": dataset})
    evaluate(f"--dump_dir={tmp_path}", "--table")
    order = [line["dataset"] for line in csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text()))]
    assert order == sorted(order)
    assert {"AID", "UCMD"} == set(order)


def test_the_table_holds_the_published_figures_at_their_cut_off_only(tmp_path, evaluate):
    classes = datasets.known()["UCMD"].class_names
    write_run(tmp_path, run={"dataset": "UCMD"}, per_class=12, classes=classes)
    table, other = (evaluate(f"--dump_dir={tmp_path}", "--table", f"--k={k}").stdout for k in (20, 5))
    assert "MHCLN, authors' re-run" in table and "test set in itself" in table
    assert "MHCLN, authors' re-run" not in other
    assert "DPSH, independent run" in other  # of the whole ranking, which has no cut-off


def test_published_figures_are_shown_if_a_class_has_no_query(tmp_path, evaluate):
    classes = datasets.known()["UCMD"].class_names
    codes = write_run(tmp_path, run={"dataset": "UCMD"}, per_class=12, classes=classes)
    split = ["train" if label == 0 else side for label, side in zip(codes.labels, codes.split, strict=True)]
    write_codes(tmp_path / "K8", dataclasses.replace(codes, split=split))
    assert "MHCLN, authors' re-run" in evaluate(f"--dump_dir={tmp_path}", "--table").stdout


def test_two_classes_in_a_folder_of_that_name_do_not_stand_beside_published_figures(tmp_path, evaluate):
    write_run(tmp_path, run={"dataset": "UCMD"}, per_class=12, classes=["forest", "harbor"])
    assert "as published" not in evaluate(f"--dump_dir={tmp_path}", "--table").stdout


def test_a_run_that_was_ended_before_its_time_says_so(tmp_path, evaluate):
    write_run(tmp_path, run={"iterations": 300, "iterations_done": 100})
    flags = [f"--dump_dir={tmp_path}", "--k=5"]
    assert "100 of 300 iterations" in evaluate(*flags, "--table").stdout
    evaluate(*flags, "--interval=0")
    assert read_results(tmp_path / "K8")["iterations_done"] == 100
    report = (tmp_path / "K8" / "report.html").read_text(encoding="utf-8")
    assert "<dt>iterations done</dt><dd>100</dd>" in report


def test_the_table_takes_results_that_answer_the_same_question(tmp_path, evaluate):
    write_run(tmp_path, run={"dataset": "mine"})
    flags = [f"--dump_dir={tmp_path}", "--k=5"]
    evaluate(*flags, "--interval=0")
    content = read_results(tmp_path / "K8")
    marked = {**content, "mAP@5": 0.123456}
    write_json_content(tmp_path / "K8/results.json", marked)
    assert "0.1235 (1)" in evaluate(*flags, "--table").stdout
    others = [{**marked, **change} for change in ({"codes_sha256": "00"}, {"archive": "all"}, {"k": 3}, {"seed": 9})]
    others.append({name: value for name, value in marked.items() if name != "mAP@5_tie_aware"})  # an older version's
    for other in others:
        write_json_content(tmp_path / "K8/results.json", other)
        assert f"{content['mAP@5']:.4f} (1)" in evaluate(*flags, "--table").stdout


def test_mistakes_with_the_table_are_one_line(tmp_path, evaluate, users_mistake):
    flags = [f"--dump_dir={tmp_path}", "--table"]
    users_mistake(evaluate(*flags), "no finished training run")
    write_run(tmp_path)
    users_mistake(evaluate(*flags, "--run_name=K8"), "--run_name")
    users_mistake(evaluate(*flags, "--k=12"), "K8", "--k=12")
    text_files.write_json(tmp_path / "K8/results.json", {"mAP@20": 0.5, "format": 0})
    users_mistake(evaluate(*flags, "--k=3"), "results.json", "another format", "eval.py")
    assert not (tmp_path / "table.md").exists()
