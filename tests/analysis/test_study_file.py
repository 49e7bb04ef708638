"""study.json and what belongs to it, as files of strangers: one line that names the key, or a report that agrees."""

import copy
import io
import json
import os
import random
import re
import shutil
from contextlib import suppress
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from c2al import verbs
from c2al.analysis.arms import Run
from c2al.analysis.markdown import code, markdown, words
from c2al.analysis.report import write_report
from c2al.analysis.significance import conclude
from c2al.analysis.study_file import load_arrays, load_pairs, load_report, load_study
from c2al.analysis.verdict import terminal_table
from c2al.schema import DataError
from tests.analysis.test_significance import drawn_cells

VALUES = [None, True, 0, -1, 2**70, 1e308, float("nan"), float("inf"), "", "\0", [], {}, [[]], {"a": 1}, [None], "${x}"]
NUMBER = r"[+−]?\d+(?:\.\d+)?"


@pytest.fixture
def folder(fake_study, tmp_path):
    """A study's folder with its study.json, to be damaged."""
    study, there = fake_study
    shutil.copytree(there, tmp_path / "study", ignore=shutil.ignore_patterns("report.html", "report.md"))
    save(tmp_path / "study", study)
    return tmp_path / "study"


def save(folder, study):
    (folder / "study.json").write_text(json.dumps(study))


def report(folder):
    verbs.report(OmegaConf.create({"study": str(folder)}))


def test_a_study_reads_back_as_it_was_made(fake_study, folder):
    study, _ = fake_study
    read = load_study(folder)
    assert [(row["low"], row["verdict"], row["row_error"]) for row in read["cells"]] == [
        (row["low"], row["verdict"], row["row_error"]) for row in study["cells"]
    ]
    assert [read[key] for key in ("name", "arms", "versions")] == [study[key] for key in ("name", "arms", "versions")]
    assert read["pair"] == study["pair"] | {"significant": True}


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (["cells", 0, "per_seed", "0"], float("nan"), r"key cells\[0\].per_seed.0: expected a number.*value nan"),
        (["cells", 1, "rows"], -3, r"key cells\[1\].rows: expected a count.*value -3"),
        (["cells", 1, "arm"], "nobody", r"cells\[1\].arm: expected an arm that is compared.*value nobody"),
        (["cells"], {}, "key cells: expected a list"),
        (["reference"], "other", r"key reference: expected one of baseline, c2al.*value other"),
        (["data"], None, "key data: expected names and values"),
        (["density", 0, "measures", "std", "ratio"], "1", "measures.std.ratio: expected a number"),
        (["pairs_file"], "../pairs.json", "the name of a file in the folder"),
        (["name"], 3, "key name: expected a text"),
    ],
)
def test_what_does_not_fit_is_named_with_its_key(folder, keys, value, said):
    study = json.loads((folder / "study.json").read_text())
    place = study
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    save(folder, study)
    with pytest.raises(DataError, match=said) as raised:
        report(folder)
    assert str(folder / "study.json") in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"[" * 100_000, b'{"name": "\\ud800"}'])
def test_no_study_at_all(folder, content):
    (folder / "study.json").write_bytes(content)
    with pytest.raises(DataError, match=r"study\.json"):
        report(folder)


def test_mutations_end_in_one_line_or_in_a_report(folder, capsys):
    raw = json.loads((folder / "study.json").read_text())
    for name in ("runs", "pairs.json"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for case in range(150):
        save(folder, mutated(raw, random.Random(case)))
        with suppress(DataError):  # any other error is a traceback
            report(folder)
    assert "cohort" in capsys.readouterr().out


def mutated(tree, rng):
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice([1, 1, 2, 3])):
        place, key = rng.choice([each for each in places(tree)])
        if rng.random() < 0.25:
            del place[key]
        else:
            place[key] = rng.choice(VALUES)
    return tree


def places(tree):
    items = tree.items() if isinstance(tree, dict) else list(enumerate(tree))[:4] if isinstance(tree, list) else ()
    for key, item in items:
        yield tree, key
        yield from places(item)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("pairs.json", b"{", "not JSON"),
        ("pairs.json", b'{"pairs": []}', "key divergence: is missing"),
        ("runs/c2al/seed_0/metrics.jsonl", b'{"step": 1}\n\n', "line 1 is no line of metrics"),
        ("runs/c2al/seed_0/weights/step_00001000.npz", b"PK\3\4nothing", "snapshot of weights does not read"),
    ],
)
def test_damaged_files_beside_it_are_named(folder, name, content, said):
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as raised:
        report(folder)
    assert name in str(raised.value)


def test_damaged_scores_leave_out_their_charts(folder):
    (folder / "runs/c2al/seed_0/scores/test.parquet").write_bytes(b"PAR1")
    report(folder)
    assert re.search(r"Left out: the scores do not read.*scores/test\.parquet", (folder / "report.html").read_text())


@pytest.mark.parametrize("content", ["{", "[]", '{"metrics": {}, "rows_per_s": 1}', '{"metrics": {"test": 1}}'])
def test_a_damaged_report_of_a_run_is_named(tmp_path, content):
    run = Run(arm="c2al", seed=0, folder=tmp_path, config={})
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(DataError, match=r"report\.json"):
        run.report("test")
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(DataError, match=r"config does not read.*config\.yaml"):
        _ = run.finished


def test_pairs_of_strangers(folder):
    pairs = json.loads((folder / "pairs.json").read_text())
    assert load_pairs(folder / "pairs.json")["pairs"][0]["axis"] == "revenue"
    for change in ({"bins": [1, 0]}, {"histograms": [{"head": [1.0], "tail": []}]}, {"divergence": "kl"}):
        (folder / "pairs.json").write_text(json.dumps(pairs | change))
        with pytest.raises(DataError, match=r"pairs\.json does not fit"):
            load_pairs(folder / "pairs.json")


# Intervals and verdicts, in every form


def study_of(cells):
    arms = {"baseline": {"overrides": [], "runs": {}}, "c2al": {"overrides": [], "runs": {}}}
    data = {"name": "rows", "path": "nowhere", "rows": {"test": 100}, "positives": {"test": 10}, "notes": {}}
    return {
        **{"name": "drawn", "split": "test", "reference": "baseline", "c2al": "0", "commit": "c", "created": "now"},
        **{"data": data, "arms": arms, "pair": None, "pairs_file": None, "cells": cells, "density": [], "config": {}},
    }


def ends_of(text):
    """[(low, high)] of every interval in a text, as a reader would have them."""
    found = re.findall(rf"\[({NUMBER}), ({NUMBER})\]", text)
    return [tuple(float(end.replace("−", "-")) for end in ends) for ends in found]


def agree(low, high, verdict):
    return (not low <= 0 <= high) == (verdict in ("better", "worse"))


@pytest.mark.parametrize("num_seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("draw", range(6))
def test_every_form_shows_intervals_that_agree_with_their_verdicts(tmp_path, num_seeds, draw):
    save(tmp_path, study_of(drawn_cells(num_seeds, draw)))
    study = load_study(tmp_path)
    told = {row["cohort"]: row["verdict"] for row in study["cells"]}
    shown = len(told) if num_seeds > 1 else 0
    assert {row["cohort"]: row["verdict"] for row in conclude(json.loads(json.dumps(study["cells"])))} == told

    lines = [line.split("|") for line in markdown(study).splitlines() if line.startswith("| ")][1:]
    checked = [(ends_of(cells[6]), cells[-2].strip()) for cells in lines]
    assert len(checked) == len(told)
    assert all(agree(*ends[0], verdict) for ends, verdict in checked if ends)
    assert sum(bool(ends) for ends, _ in checked) == shown

    console = Console(file=io.StringIO(), width=300)
    console.print(terminal_table(study, num_others=100))
    rows = [line for line in console.file.getvalue().splitlines() if ends_of(line)]
    assert len(rows) == shown
    assert all(agree(*ends_of(row)[0], row.split()[-1]) for row in rows)

    page = Path(write_report(study, str(tmp_path))).read_text()
    table = re.search("<h2>All cells</h2>.*?</table>", page, re.DOTALL)[0]
    cells = [re.findall("<td.*?>(.*?)</td>", row) for row in table.split("<tr") if "<td" in row]
    cells = [[unescape(re.sub("<.*?>", "", cell)) for cell in row] for row in cells]
    assert len(cells) == len(told)
    assert all(agree(*ends_of(row[6])[0], row[5]) for row in cells if ends_of(row[6]))
    lanes = re.findall(r'<div><b class="(\w*)">.*?</b> (.*?)</div>', page)
    assert sum(bool(ends_of(ends)) for _, ends in lanes) == shown
    assert all(agree(*ends_of(ends)[0], verdict) for verdict, ends in lanes if ends_of(ends))


def test_p_values_have_one_form_in_every_place(tmp_path):
    cells = [row | {"per_seed": {"0": 1.0, "1": 1.0 + 1e-9, "2": 1.0}} for row in drawn_cells(3, 1)[:1]]
    save(tmp_path, study_of(cells))
    study = load_study(tmp_path)
    console = Console(file=io.StringIO(), width=300)
    console.print(terminal_table(study))
    html = Path(write_report(study, str(tmp_path))).read_text()
    assert all("< 0.001" in text for text in (console.file.getvalue(), markdown(study), unescape(html)))
    assert not re.search(r"\de-\d", console.file.getvalue() + markdown(study))


# Names of strangers


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, tuple(name for name, _ in attrs)))


EVIL = "<img src=x onerror=alert(1)>\"'`</script></style><script>alert(2)</script>[a](javascript:b)|x"


def poisoned(tree):
    if isinstance(tree, dict):
        return {key: poisoned(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [poisoned(value) for value in tree]
    return tree + EVIL if isinstance(tree, str) else tree


def test_no_string_of_a_study_becomes_html(folder):
    """Every string, and every name of a cohort, arm, seed or measure."""
    study = json.loads((folder / "study.json").read_text())
    clean = tags_of(folder)
    study = poisoned({key: study[key] for key in study if key not in ("arms", "pairs_file")}) | {
        "arms": {arm + EVIL: told | {"overrides": [EVIL]} for arm, told in study["arms"].items()},
        "pairs_file": study["pairs_file"],
    }
    study["data"]["path"] = study["data"]["path"].removesuffix(EVIL)
    study["data"]["rows"] = {name + EVIL: value for name, value in study["data"]["rows"].items()}
    for row in study["cells"]:
        row["per_seed"] = {seed + EVIL: value for seed, value in row["per_seed"].items()}
    for row in study["density"]:
        row["moment"] = row["moment"].removesuffix(EVIL)
        row["measures"] = {name + EVIL * (name != "row_entropy"): value for name, value in row["measures"].items()}
    save(folder, study)
    pairs = poisoned(json.loads((folder / "pairs.json").read_text()))
    pairs["pairs"] = [pair | {"divergences": {"js" + EVIL: 0.1}} for pair in pairs["pairs"]]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    report(folder)
    found = Tags()
    found.feed((folder / "report.html").read_text())
    assert {tag for tag, _ in found.found} <= {tag for tag, _ in clean}
    assert not {name for _, names in found.found for name in names if name.startswith("on") or name in ("src", "href")}
    lines = (folder / "report.md").read_text().splitlines()
    outside = "\n".join(line for line in lines if not line.startswith("`"))  # a span of code holds the overrides
    assert not re.search(r"<|(?<!\\)(\]\(|`)", outside.replace("< 0.001", ""))


def tags_of(folder):
    report(folder)
    found = Tags()
    found.feed((folder / "report.html").read_text())
    return found.found


def test_control_characters_and_markup_reach_no_terminal(folder, monkeypatch, capsys):
    study = json.loads((folder / "study.json").read_text())
    for row in study["cells"]:
        row["cohort"] += "[red]\x1b[2J\u202e\n"
    study["name"] += "[/]\x1b]0;owned\x07"
    save(folder, study)
    report(folder)
    assert "\x1b" not in capsys.readouterr().out
    for page in ("report.html", "report.md"):
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", (folder / page).read_text())


def test_markdown_shows_text_letter_for_letter():
    assert words("age_x_surface: 25-34 × a") == "age_x_surface: 25-34 × a"
    assert words("<b>|*x*_y_`[a](b)") == r"&lt;b&gt;\|\*x\*\_y\_\`[a\](b)"
    assert words("+0.05 % NE [−0.01, +0.11].") == "+0.05 % NE [−0.01, +0.11]."
    assert code("a`b``c") == "``` a`b``c ```"
    assert code("method=c2al") == "`method=c2al`"


def test_a_finished_run_needs_its_split(tmp_path):
    cell = {"ne": None, "auc": 0.5, "calibration": 1, "log_loss": 0.1, "rows": 1, "positives": 0}
    cell |= {"weight": 1.0, "positive_weight": 0.0}
    content = {"metrics": {"test": {"overall": cell, "cohorts": {"age": {"old": cell}}}}, "rows_per_s": 3.0}
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert load_report(tmp_path / "report.json", "test")["metrics"]["test"]["overall"]["ne"] is None
    with pytest.raises(DataError, match=r"metrics\.validation"):
        load_report(tmp_path / "report.json", "validation")


@pytest.mark.parametrize("run", ["/proc/self", "../other", "runs/../../x", "a\0b", "a" * 5000, "link"])
def test_runs_lie_in_the_studys_folder(folder, run):
    (folder / "link").symlink_to("/proc/self")
    study = json.loads((folder / "study.json").read_text())
    study["arms"]["c2al"]["runs"]["0"] = run
    save(folder, study)
    with pytest.raises(DataError, match="below the study's folder"):
        load_study(folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("arms", {str(i): {} for i in range(300)}, "at most 200"),
        ("cells", [{}] * 6000, "at most 5,000"),
        ("config", json.loads("[" * 400 + "]" * 400), "more than 64 levels"),
        ("hardware", {"a": json.loads("[" * 900 + "]" * 900)}, "more than 64 levels"),
    ],
)
def test_what_would_take_long_or_goes_too_deep(folder, key, value, said):
    save(folder, json.loads((folder / "study.json").read_text()) | {key: value})
    with pytest.raises(DataError, match=said):
        load_study(folder)


def test_arrays_that_unpack_to_more_than_the_file(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(2**20))
    with pytest.raises(DataError, match="compressed"):
        load_arrays(tmp_path / "a.npz")


def test_a_pipe_is_no_study(folder):
    (folder / "study.json").unlink()
    os.mkfifo(folder / "study.json")
    with pytest.raises(DataError, match="not a regular file"):
        load_study(folder)
