import json
from dataclasses import replace

import numpy as np
import pytest

from c2al.cohorts.discover import discover
from c2al.cohorts.pairs import load_pair, load_view
from c2al.schema import DataError


@pytest.fixture
def found(schema, made, write):
    scores = write(made(effect=0.5))
    return discover(scores=scores, schema=schema, axes=["revenue", "surface"], min_rows=300, num_permutations=199)


def test_saved_pairs_are_read_back(found, tmp_path):
    found.save(str(tmp_path / "run"))
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["pairs.json", "pairs.png"]
    saved = json.loads((tmp_path / "run" / "pairs.json").read_text())
    assert saved["axes"] == ["revenue", "surface"]
    assert [pair["rank"] for pair in saved["pairs"]] == list(range(1, 10))
    first = saved["pairs"][0]
    for key in ("divergences", "interval", "p", "p_holm", "significant", "excess", "head_rows", "tail_rows"):
        assert key in first
    assert first["head_positive_rate"] > first["tail_positive_rate"]
    assert len(saved["bins"]) == len(saved["histograms"][0]["head"]) + 1
    assert np.sum(saved["histograms"][0]["tail"]) == pytest.approx(1)
    path = str(tmp_path / "run" / "pairs.json")
    assert load_pair(path) == ("revenue", "top 10%", "bottom 10%")
    assert load_pair(path, 8) == (saved["pairs"][8]["axis"], saved["pairs"][8]["head"], saved["pairs"][8]["tail"])


def test_saving_again_replaces_the_files(found, tmp_path):
    (tmp_path / "pairs.json").write_text("old")
    found.save(str(tmp_path))
    assert load_pair(str(tmp_path / "pairs.json"))[0] == "revenue"
    assert not list(tmp_path.glob("*.part"))


def test_load_pair_says_what_is_wrong(found, tmp_path):
    path = str(tmp_path / "pairs.json")
    with pytest.raises(DataError, match=r"no file of cohort pairs there.*c2al discover"):
        load_pair(path)
    found.save(str(tmp_path))
    for index in (9, -1):
        with pytest.raises(DataError, match="holds 9 pairs"):
            load_pair(path, index)
    for text in ("{", "[]", '{"pairs": [{"axis": "a"}]}'):
        (tmp_path / "pairs.json").write_text(text)
        with pytest.raises(DataError, match="not a file of cohort pairs"):
            load_pair(path)


def test_the_table_is_text_for_a_terminal(found):
    rows = found.table(3)
    assert len(rows) == 3
    assert rows[0]["head"] == "top 10%"
    assert rows[0]["significant"] == "yes"
    assert rows[0]["js"] == f"{found.pairs[0].divergences['js']:.4f}"
    assert all(isinstance(text, str) for row in rows for text in row.values())


def test_a_name_may_hold_any_letter(found, tmp_path):
    found.save(str(tmp_path))
    text = (tmp_path / "pairs.json").read_text(encoding="utf-8").replace("top 10%", "größte × 10 %")
    (tmp_path / "pairs.json").write_text(text, encoding="utf-8")
    assert load_pair(str(tmp_path / "pairs.json"))[1] == "größte × 10 %"


def test_the_view_of_learned_cohorts(found, tmp_path):
    path = str(tmp_path / "pairs.json")
    found.save(str(tmp_path))
    assert load_view(path) is None
    replace(found, words={"revenue": {"top 10%": "spend 2.0 sd above"}}, view="out/learned").save(str(tmp_path))
    assert load_view(path) == "out/learned"
    (tmp_path / "pairs.json").write_text('{"pairs": []}')
    assert load_view(path) is None, "written before there were learned axes"


@pytest.mark.parametrize("to", ["/proc/x", "afile/b", "afile"])
def test_a_folder_that_cannot_be_written_is_one_line(found, tmp_path, monkeypatch, to):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("x")
    with pytest.raises(DataError, match=rf"cannot be written: .*file {to}/pairs\.png.*to=DIR") as caught:
        found.save(to)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("view", [3, "", ["out"], {"a": 1}, False])
def test_a_view_that_is_no_folder_is_one_line(view, tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps({"pairs": [], "view": view}))
    with pytest.raises(DataError, match="view"):
        load_view(str(path))


@pytest.mark.parametrize("view", ["http://127.0.0.1:9/x", "s3://b/x", "zip::x"])
def test_a_view_on_another_store_is_not_opened(view, tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps({"pairs": [], "view": view}))
    with pytest.raises(DataError, match="another store"):
        load_view(str(path))


@pytest.mark.parametrize("path", ["s3://b/p.json", "foo://x", "ftp://127.0.0.1:9/x"])
def test_a_store_that_does_not_open_is_one_line(path):
    with pytest.raises(DataError, match="pairs"):
        load_pair(path)
