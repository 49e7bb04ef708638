"""A verb replaces its own earlier output and nothing else."""

import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.output_files import (
    MODEL_RECORD,
    PNG,
    check_model_file,
    check_pairs_folder,
    check_plan_file,
    check_scores_file,
)
from c2al.schema import DataError


def a_model(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MODEL_RECORD, "{}")


def a_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thesis.tex", "x")


def scores(path):
    pq.write_table(pa.table({"row": [0], "logit": [0.1], "probability": [0.5], "label": [1]}), path)


def rows(path):
    pq.write_table(pa.table({"user": [1], "clicked": [0]}), path)


def text(path):
    path.write_text("notes")


def plan(path):
    path.write_text(json.dumps({"plans": []}))


def picture(path):
    path.write_bytes(PNG + b"ab")


def empty(path):
    path.touch()


def nothing(path):
    pass


@pytest.mark.parametrize(
    ("check", "name", "make"),
    [
        *((check_model_file, "model.pt2", make) for make in (a_model, empty, nothing)),
        *((check_scores_file, "scores.parquet", make) for make in (scores, empty, nothing)),
        *((check_plan_file, "plan.json", make) for make in (plan, empty, nothing)),
        *((check_plan_file, "plan.png", make) for make in (picture, nothing)),
    ],
)
def test_its_own_file_is_replaced(check, name, make, tmp_path):
    make(tmp_path / name)
    check(str(tmp_path / name))


@pytest.mark.parametrize(
    ("check", "name", "make"),
    [
        *((check_model_file, "model.pt2", make) for make in (a_zip, rows, text)),
        *((check_scores_file, "rows.parquet", make) for make in (rows, text, a_model)),
        *((check_plan_file, "package.json", make) for make in (text, rows)),
        *((check_plan_file, "photo.png", make) for make in (text, plan)),
    ],
)
def test_another_file_is_refused_and_stays(check, name, make, tmp_path):
    path = tmp_path / name
    make(path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="did not write") as refused:
        check(str(path))
    assert str(path) in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("check", [check_model_file, check_scores_file, check_plan_file])
def test_a_folder_or_no_place_is_refused(check, tmp_path):
    for to in (str(tmp_path), "", "  ", None):
        with pytest.raises(DataError):
            check(to)


def test_pairs_of_somebody_else_are_refused(tmp_path):
    (tmp_path / "pairs.json").write_text('{"pairs": []}')
    check_pairs_folder(str(tmp_path))
    (tmp_path / "pairs.png").write_text("a drawing")
    with pytest.raises(DataError, match=r"pairs\.png"):
        check_pairs_folder(str(tmp_path))
    (tmp_path / "pairs.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"pairs\.json"):
        check_pairs_folder(str(tmp_path))
