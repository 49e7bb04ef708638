"""The report's tables: all cells, ranked pairs, density measures, plain facts."""

from html import escape
from typing import Any

from c2al.analysis.attention import MEASURES
from c2al.analysis.page import between, count, p_value, plain, signed, table
from c2al.analysis.plots import short_layer
from c2al.analysis.significance import OVERALL
from c2al.analysis.verdict import SHORT, arms, digits, side
from c2al.printable import divergence_text

NUM_PAIRS = 12
MEASURE_NAMES = {
    "std": "standard deviation",
    "kurtosis": "excess kurtosis",
    "near_zero": "share near zero",
    "participation": "participation ratio",
    "row_entropy": "row entropy, nats",
    "effective_rank": "effective rank",
    "dead_paths": "dead paths",
    "evenness": "evenness of queries",
    "near_uniform": "share of queries near uniform",
}


def cells_table(study: dict[str, Any]) -> str:
    """Every row of ``compare``."""
    several = len(arms(study)) > 1
    head = ["cohort", "rows", "positives", "NE", "difference, %", "verdict", "interval over seeds", "s.e. over rows"]
    head += ["p", "p (Holm)", "detectable", "AUC difference, interval", "calibration"]
    rows, classes = [], []
    for row in study["cells"]:
        rows.append(([escape(row["arm"])] if several else []) + _cell(study, row))
        classes.append("whole" if row["axis"] == OVERALL[0] else "pair" if side(study, row) else "")
    shift = int(several)
    return table(["arm"] * shift + head, rows, text=(0, shift, 5 + shift), classes=classes)


def _cell(study: dict[str, Any], row: dict[str, Any]) -> list[str]:
    name = "all rows" if row["axis"] == OVERALL[0] else f"{row['axis']}: {row['cohort']}"
    mark = f" <span class=tag>{side(study, row)}</span>" if side(study, row) else ""
    told = row["verdict"] if row["verdict"] in ("better", "worse") else ""
    auc = {key: None if row[key] is None else 100 * row[key] for key in ("auc_difference", "auc_low", "auc_high")}
    auc_digits = digits(auc, low="auc_low", high="auc_high")
    calibration = f"{plain(row['calibration_reference'], 3)} → {plain(row['calibration_arm'], 3)}"
    return [
        escape(name) + mark,
        count(row["rows"]),
        count(row["positives"]),
        plain(row["ne_reference"]),
        f'<b class="{told}">{signed(row["difference"], digits(row, least=3))}</b>',
        f'<span class="{told}">{escape(SHORT.get(row["verdict"], row["verdict"].partition(":")[0]))}</span>',
        between(row["low"], row["high"], digits(row, least=3)),
        over_rows(row),
        p_value(row["p"]),
        p_value(row["p_holm"]),
        plain(row["mde"], 3),
        f"{signed(auc['auc_difference'], auc_digits)} "
        f"<small>{between(auc['auc_low'], auc['auc_high'], auc_digits)}</small>",
        calibration if row["calibration_reference"] is not None else "–",
    ]


def over_rows(row: dict[str, Any]) -> str:
    """The standard error of the mean difference over rows; of an older study, the single seeds' own, which is more."""
    if row.get("row_error") is not None:
        return plain(row["row_error"], 3)
    found = [
        (high - low) / 2 / 1.96 for low, high in (ends for ends in (row.get("row_interval") or {}).values() if ends)
    ]
    return f"≤ {sum(found) / len(found):.3f}" if found else "–"


def pairs_table(pairs: dict[str, Any], pair: dict[str, str]) -> str:
    """The best ranked pairs of ``pairs.json``, the study's own marked."""
    name = pairs["divergence"]
    shown = name.upper() if len(name) == 2 else name
    judged = all(
        ranked.get("verdict") for ranked in pairs["pairs"]
    )  # else by a version whose intervals held one by one
    interval = "interval, all pairs at once" if judged else "95 %, each by itself, not corrected"
    head = ["pair", escape(shown), interval, "p (Holm)", "verdict", "rows", "positive rate, %", "mean prediction, %"]
    rows, classes = [], []
    for ranked in pairs["pairs"][:NUM_PAIRS]:
        low, high = ranked["interval"]
        rows.append(
            [
                f"{escape(ranked['axis'])}: {escape(ranked['head'])} / {escape(ranked['tail'])}",
                f"{ranked['divergences'][name]:.4f}",
                f"{divergence_text(low)} to {divergence_text(high)}",
                p_value(ranked["p_holm"]),
                escape(ranked.get("verdict") or ("sure" if ranked["significant"] else "not sure")),
                f"{count(ranked['head_rows'])} / {count(ranked['tail_rows'])}",
                f"{100 * ranked['head_positive_rate']:.3g} / {100 * ranked['tail_positive_rate']:.3g}",
                f"{100 * ranked['head_mean_prediction']:.3g} / {100 * ranked['tail_mean_prediction']:.3g}",
            ]
        )
        classes.append("pair" if all(ranked[key] == pair[key] for key in ("axis", "head", "tail")) else "")
    return table(head, rows, classes=classes)


def density_table(density: list[dict[str, Any]], reference: str, *, only_y: bool) -> str:
    """Measures at the end of training: of Y in full, of other layers as ratios of the arm to the reference."""
    starts = {(row["arm"], row["kind"], row["layer"], row["role"]): row for row in density if row["moment"] == "start"}
    rows = []
    for row in density:
        if row["moment"] != "end" or only_y != ("row_entropy" in row["measures"]):
            continue
        start = starts.get((row["arm"], row["kind"], row["layer"], row["role"]), {"measures": {}})
        rows += _of_y(row, start["measures"]) if only_y else [_ratios(row)]
    if only_y:
        head = ["layer", "measure", "arm", "all, start", f"{escape(reference)}, end", "arm, end"]
        return table([*head, "difference", "95 % alone", "ratio", "95 % alone"], rows, text=(0, 1, 2))
    names = [MEASURE_NAMES[name] for name in MEASURES[:4]] + [MEASURE_NAMES["effective_rank"]]
    return table(["layer", "role", "arm", *names], rows, text=(0, 1, 2))


def _of_y(row: dict[str, Any], start: dict[str, Any]) -> list[list[str]]:
    lines: list[list[str]] = []
    for name, found in row["measures"].items():
        digits = 1 if name == "dead_paths" else 4
        first = plain(start.get(name, {}).get("reference"), digits)
        values = [plain(found[key], digits) for key in ("reference", "arm")]
        ends = between(found["difference_low"], found["difference_high"], digits)
        ratio = [plain(found["ratio"], 3), _ends(found)]
        layer = escape(short_layer(row["layer"])) if not lines else ""
        change = [signed(found["difference"], digits), ends]
        shown = escape(MEASURE_NAMES.get(name, name))
        lines.append([layer, shown, escape(row["arm"]), first, *values, *change, *ratio])
    return lines


def _ratios(row: dict[str, Any]) -> list[str]:
    """Ratio and its interval; the difference for what may be negative."""
    kind = " (activation)" if row["kind"] == "activation" else ""
    cells = [escape(short_layer(row["layer"])) + kind, escape(row["role"]), escape(row["arm"])]
    for name in (*MEASURES[:4], "effective_rank"):
        found = row["measures"].get(name)
        if found is None:
            cells.append("–")
        elif name == "kurtosis" or found["ratio"] is None:
            shown = signed(found["difference"], 3)
            cells.append(f"{shown} <small>{between(found['difference_low'], found['difference_high'])}</small>")
        else:
            cells.append(f"× {found['ratio']:.3f} <small>{_ends(found)}</small>")
    return cells


def _ends(found: dict[str, Any]) -> str:
    low, high = found["low"], found["high"]
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def facts(pairs: dict[str, Any]) -> str:
    """Names and values, two columns."""
    rows = [[escape(str(name)), escape(str(value))] for name, value in pairs.items() if value not in (None, "", {}, [])]
    return table(["", ""], rows, text=(0, 1)) if rows else ""
