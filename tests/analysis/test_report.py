import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from c2al.analysis.report import write_report

SECTIONS = (
    "Whom it helps",
    "All cells",
    "Learning curves",
    "The pair",
    "How dense attention became",
    "Data",
    "How it was made",
)
VOID = {"meta", "link", "br", "img", "line", "hr"}


class Page(HTMLParser):
    """Checks nesting; keeps the text and what would be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.fetched, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    html = Path(path).read_text(encoding="utf-8")
    parsed = Page()
    parsed.feed(html)
    assert parsed.open == []
    return html, parsed, re.sub(r"\s+", " ", " ".join(parsed.text))


def test_report_is_one_file_with_every_cell(fake_study):
    study, folder = fake_study
    path = write_report(study, folder)
    assert path == str(Path(folder) / "report.html")
    html, parsed, text = read(path)
    for title in SECTIONS:
        assert title in text
    for row in study["cells"]:
        name = "all rows" if row["axis"] == "overall" else f"{row['axis']}: {row['cohort']}"
        assert name in text
        assert f"{row['difference']:+.3f}".replace("-", "−") in text
        assert f"{row['ne_reference']:.4f}" in text
    assert text.count("Left out") == 0
    assert parsed.fetched == []
    assert "://" not in html
    assert "url(" not in html
    assert not {"script", "link", "img", "iframe"} & set(parsed.tags)
    assert "nan" not in re.findall(r"[a-z]+", html.lower())
    assert not list(Path(folder).glob("*.partial"))


def test_headline_is_in_words(fake_study):
    study, folder = fake_study
    text = read(write_report(study, folder))[2]
    assert re.search(r"c2al against baseline over 3 seeds: overall [−+][\d.]+ % NE \[[−+][\d.]+, [−+]?[\d.]+\]", text)
    assert "Helped: revenue" in text
    assert "Cannot be told from zero:" in text
    assert "four of five such studies" in text


def test_study_read_back_from_json_gives_the_same_report(fake_study):
    study, folder = fake_study
    first = Path(write_report(study, folder)).read_text()
    assert Path(write_report(json.loads(json.dumps(study)), folder)).read_text() == first


def test_charts_are_drawn(fake_study):
    study, folder = fake_study
    html = Path(write_report(study, folder)).read_text()
    captions = [re.sub("<.*?>", "", caption) for caption in re.findall("<figcaption>(.*?)</figcaption>", html)]
    for start in ("Training loss", "Validation NE", "NE against baseline", "Baseline as discovery", "c2al test split"):
        assert any(caption.startswith(start) for caption in captions), start
    assert sum(caption.startswith("Y at the start") for caption in captions) == 2
    assert sum(caption.startswith("Width of Y") for caption in captions) == 2
    assert html.count('class="seed"') == 3 * len([row for row in study["cells"] if row["difference"] is not None])


def test_several_arms(make_study):
    study, folder = make_study("several", num_rows=2_000, seeds=(0, 1), arms=("baseline", "c2al", "head_only"))
    text = read(write_report(study, folder))[2]
    assert "c2al against baseline" in text
    assert "head_only against baseline" in text


def test_one_seed(make_study):
    study, folder = make_study("one", num_rows=2_000, seeds=(0,))
    text = read(write_report(study, folder))[2]
    assert "one seed: no interval" in text
    assert "two seeds or more" in text


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("metrics.jsonl", "the run folders hold no metrics.jsonl"),
        ("weights", "no weights of attention"),
        ("pairs.json", "ranked pairs"),
        ("schema.yaml", "no prepared data there"),
    ],
)
def test_missing_pieces_are_said(fake_study, tmp_path, lost, said):
    study, folder = fake_study
    copied = tmp_path / "study"
    shutil.copytree(folder, copied)
    for path in copied.rglob(lost):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    study = {**study, "density": []} if lost == "weights" else study
    if lost == "schema.yaml":
        study = {**study, "data": {**study["data"], "path": str(tmp_path / "gone")}}
    text = read(write_report(study, str(copied)))[2]
    assert "Left out" in text
    assert said in text
    assert "All cells" in text


def test_bare_study(fake_study, tmp_path):
    study, _ = fake_study
    bare = {**study, "pair": None, "pairs_file": None, "cells": [], "density": [], "commands": [], "seconds": None}
    text = read(write_report(bare, str(tmp_path)))[2]
    assert text.count("Left out") == 4


def test_names_are_escaped(fake_study, tmp_path):
    study, _ = fake_study
    cells = [{**row, "cohort": "<b>&" if row["cohort"] == "display" else row["cohort"]} for row in study["cells"]]
    html = Path(write_report({**study, "name": "a <script> & b", "cells": cells}, str(tmp_path))).read_text()
    assert "<script" not in html
    assert "&lt;b&gt;&amp;" in html
    assert "<b>&" not in html.replace("<b>&lt;", "").replace("<b>&#", "")


def test_a_report_is_written_through_no_link_and_opens_no_url(fake_study, tmp_path):
    study, folder = fake_study
    copied = shutil.copytree(folder, tmp_path / "study")
    (tmp_path / "mine").write_text("keep")
    (copied / "report.html").unlink(missing_ok=True)
    for name in ("report.partial", "report.html.partial", "report.html"):
        (copied / name).symlink_to("../mine")
    study = {**study, "data": {**study["data"], "path": "http://127.0.0.1:9/x"}}
    assert "lie on another store" in read(write_report(study, str(copied)))[2]
    assert (tmp_path / "mine").read_text() == "keep"
