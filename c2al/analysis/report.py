"""``study.json`` to ``report.html``: one file with every table and chart in it, which needs no network.

Charts are drawn from the run folders beneath the study's. Where something is missing the report says what, and why.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

import yaml

from c2al.analysis.attention import gives_weights
from c2al.analysis.curves import learning_curves, run_paths, width_along_training
from c2al.analysis.distributions import found_histogram, score_histograms, weight_distributions, y_distributions
from c2al.analysis.forest import forest
from c2al.analysis.page import charts, colour, count, key, missing, page, plain, section, signed, table
from c2al.analysis.significance import OVERALL
from c2al.analysis.study_file import load_pairs
from c2al.analysis.tables import cells_table, density_table, facts, pairs_table
from c2al.analysis.verdict import HOW, arms, cells_of, digits, interval_text, sentences, side
from c2al.plain_files import write_whole
from c2al.schema import DataError, Schema, refuse_elsewhere

REPORT = "report.html"


def write_report(study: dict[str, Any], folder: str) -> str:
    """Write ``report.html`` into the study's folder, whole or not at all; returns its path."""
    body = [
        _headline(study),
        _cohorts(study),
        _learning(study, folder),
        _pair(study, folder),
        _attention(study, folder),
        _data(study),
        _provenance(study),
    ]
    path = Path(folder, REPORT)
    write_whole(path, page(f"{study['name']}: study report", "\n".join(body)))
    return str(path)


def _headline(study: dict[str, Any]) -> str:
    said = "".join(_said(sentences(study, arm)) for arm in arms(study))
    rows, positives = (study["data"].get(key, {}).get(study["split"]) for key in ("rows", "positives"))
    sizes = f", {count(rows)} rows with {count(positives)} positives" if rows and positives else ""
    about = f"{study['data']['name']}, {study['split']} split{sizes} · {study['created']}"
    tiles = "".join(_tiles(study, arms(study)[0])) if arms(study) else ""
    return (
        f'<header><h1>{escape(study["name"])}</h1><p class="soft">{escape(about)}</p>{said}'
        f'<div class="tiles">{tiles}</div></header>'
    )


def _said(told: list[str]) -> str:
    first, *others = (escape(sentence) for sentence in told)
    items = "".join(f"<li>{sentence}</li>" for sentence in others)
    return f'<p class="lead">{first}</p><ul class="findings">{items}</ul>'


def _tiles(study: dict[str, Any], arm: str) -> list[str]:
    cells = cells_of(study, arm)
    shown = [("all rows", cells[OVERALL])] if OVERALL in cells else []
    pair = sorted((row for row in cells.values() if side(study, row)), key=lambda row: side(study, row))
    shown += [(f"{side(study, row)}: {row['axis']} {row['cohort']}", row) for row in pair]
    out = []
    for name, row in shown:
        told = row["verdict"] if row["verdict"] in ("better", "worse") else ""
        interval = f"{interval_text(row)}, " if row["low"] is not None else ""
        out.append(
            f'<div class="tile"><small>{escape(arm)}, {escape(name)}</small><b class="{told}">'
            f"{signed(row['difference'], digits(row))} %</b>"
            f"<small class=soft>NE {interval}{escape(row['verdict'])}</small></div>"
        )
    if shown and shown[0][1]["mde"] is not None:
        reach = plain(shown[0][1]["mde"], digits(shown[0][1]))
        out.append(
            f"<div class=tile><small>smallest effect within reach</small><b>{reach} %</b>"
            "<small class=soft>all rows; four of five such studies find it</small></div>"
        )
    return out


def _cohorts(study: dict[str, Any]) -> str:
    if not study["cells"]:
        return missing("Whom it helps", "no arm has been compared yet")
    how = (
        "Change of normalized entropy in per cent; to the left is better. Small dots are single seeds; effects within "
        f"the grey this study could have missed. {HOW}"
    )
    table_how = (
        "NE is the reference's. p is a paired t test over seeds, p (Holm) its correction over all cohorts × arms; "
        "overall cells are a family of their own. The standard error over rows is of the same mean over seeds, by a "
        "bootstrap of units (households, users; else rows) under these trained models; no interval holds it. AUC "
        "differences are in hundredths, their intervals made like those of NE in families of their own. The overall "
        "differences were "
        "checked to be the log-loss-weighted means of the cohorts'."
    )
    return section("Whom it helps, and whom not", forest(study), note=how) + section(
        "All cells", cells_table(study), note=table_how
    )


def _arm_key(study: dict[str, Any]) -> str:
    order = [study["reference"], *arms(study)]
    return key(*((arm, colour(i), "") for i, arm in enumerate(order)))


def _learning(study: dict[str, Any], folder: str) -> str:
    title = "Learning curves"
    figures = learning_curves(run_paths(study, folder), study["reference"])
    if not figures:
        return missing(title, "the run folders hold no metrics.jsonl")
    note = "Thin lines are seeds, thick ones their mean."
    return section(title, _arm_key(study), charts(*figures), note=note)


def _pair(study: dict[str, Any], folder: str) -> str:
    pair = study.get("pair")
    if not pair:
        return missing("The pair of cohorts", "the study has none")
    title = f"The pair: {pair['axis']}, {pair['head']} against {pair['tail']}"
    pairs, why = _pairs_file(study, folder)
    figures = found_histogram(pairs, pair) if pairs else []
    try:
        refuse_elsewhere(study["data"]["path"], of=str(Path(folder, "study.json")), what="the data")
        schema = Schema.load(study["data"]["path"])
        figures += score_histograms(run_paths(study, folder), split=study["split"], pair=pair, schema=schema)
    except DataError as error:
        why.append(str(error))
    legend = key((f"head: {pair['head']}", "var(--head)", ""), (f"tail: {pair['tail']}", "var(--tail)", "dash"))
    ranked = ""
    if pairs:
        how = f"{len(pairs['pairs'])} pairs of {len(pairs['axes'])} axes, ranked by divergence"
        ranked = f"<h3>{escape(how)}</h3>{pairs_table(pairs, pair)}"
    left_out = f"Left out: {escape('; '.join(why))}." if why else ""
    return section(title, legend, charts(*figures) if figures else "", ranked, note=left_out)


def _pairs_file(study: dict[str, Any], folder: str) -> tuple[dict[str, Any] | None, list[str]]:
    if not study.get("pairs_file"):
        return None, ["ranked pairs, since the pair was given and not discovered"]
    path = Path(folder, study["pairs_file"])
    return (load_pairs(path), []) if path.exists() else (None, [f"ranked pairs: {path.name} is not there"])


def _attention(study: dict[str, Any], folder: str) -> str:
    title = "How dense attention became"
    runs = run_paths(study, folder)
    density = study["density"]
    ys, weights = y_distributions(runs), weight_distributions(runs)
    if not ys and not density:
        return missing(title, "the run folders hold no weights of attention at two steps or more")
    widths = width_along_training(density, [study["reference"], *arms(study)])
    layers = dict.fromkeys([*ys, *widths])
    figures = [*([*ys.get(layer, []), *([widths[layer]] if layer in widths else [])] for layer in layers)]
    parts = [_arm_key(study), *(charts(*shown) for shown in figures)]
    if density:
        what = "Attention weights" if any(gives_weights(layer) for layer in layers) else "Y"
        parts.append(
            f"<h3>{what} at the end of training</h3>" + density_table(density, study["reference"], only_y=True)
        )
        around = density_table(density, study["reference"], only_y=False)
        said = (
            "× is the ratio of the arm to the reference, signed numbers are differences; 95 % intervals over seeds, "
            "each by itself: not corrected for how many there are."
        )
        parts.append(f'<h3>Weights in, before, beside and after attention</h3><p class="soft">{said}</p>{around}')
    if weights:
        parts.append(f"<details><summary>Distributions of those weights</summary>{charts(*weights)}</details>")
    note = (
        "G = X Xᵀ Y. Share near zero: entries under 1 % of the standard deviation at the start. Participation ratio: "
        "1 if all entries are equal in size, 1/size if one carries all. Dead paths: rows of Y that give G next to "
        "nothing. Of attention over a history the weights stand in Y's place, without those that the mask makes zero: "
        "evenness is a query's entropy over that of equal shares, near uniform above 0.95."
    )
    return section(title, *parts, note=note)


def _data(study: dict[str, Any]) -> str:
    data = study["data"]
    splits = list(data.get("rows", {}))
    bayes = data.get("notes", {}).get("bayes_ne") or {}
    head = ["split", "rows", "positives", "positive rate, %"] + (["Bayes NE"] if bayes else [])
    rows = []
    for split in splits:
        num, positive = data["rows"][split], data["positives"].get(split, 0)
        known = [_bayes(bayes, split)] if bayes else []
        rows.append([escape(split), count(num), count(positive), f"{100 * positive / max(num, 1):.3g}", *known])
    notes = {name: value for name, value in data.get("notes", {}).items() if not name.startswith("bayes")}
    note = (
        "Bayes NE is what the true probabilities reach on these rows: no model beats it but by luck." if bayes else ""
    )
    told = [f"<h3>Notes</h3><pre>{escape(_yaml(notes))}</pre>"] if notes else []
    return section(f"Data: {data['name']}", table(head, rows), *told, note=note)


def _bayes(bayes: Any, split: str) -> str:
    of_split = bayes.get(split) if isinstance(bayes, dict) else None
    overall = of_split.get("overall") if isinstance(of_split, dict) else None
    return plain(overall) if isinstance(overall, float) else "–"


def _provenance(study: dict[str, Any]) -> str:
    made = {"c2al": study.get("c2al"), "commit": study.get("commit"), "created": study.get("created")}
    if study.get("seconds"):
        made["time"] = f"{study['seconds'] / 60:.1f} min"
    made |= {name: value for name, value in (study.get("hardware") or {}).items()}
    overrides = {
        arm: f"{' '.join(told.get('overrides') or ['(defaults)'])}; seeds {', '.join(map(str, told['runs']))}"
        for arm, told in study["arms"].items()
    }
    commands = escape("\n".join(study.get("commands") or ["(not kept)"]))
    columns = f'<div class="columns"><div>{facts(made)}</div><div>{facts(study.get("versions") or {})}</div></div>'
    return section(
        "How it was made",
        f"<h3>Commands</h3><pre>{commands}</pre>",
        f"<h3>Arms</h3>{facts(overrides)}",
        f"<h3>Code and machine</h3>{columns}",
        f"<details><summary>Configuration</summary><pre>{escape(_yaml(study['config']))}</pre></details>",
    )


def _yaml(value: Any) -> str:
    return yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False, allow_unicode=True, width=110)
