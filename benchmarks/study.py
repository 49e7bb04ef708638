"""A finished study into the project: its numbers to ``results/``, its page of Markdown to ``docs/``.

    c2al study experiment=complete_journey data.path=DIR
    python -m benchmarks.study outputs/complete_journey --page docs/complete_journey.md

Left out of the JSON: paths of the machine, and the density of attention between the start and the end of training.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, record
from c2al.analysis.markdown import markdown
from c2al.analysis.study_file import load_study

LEFT_OUT = ("path", "run_dir", "prepare")


def main(words: list[str] | None = None, *, results: Path = RESULTS) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="the study's folder")
    parser.add_argument("--page", type=Path, help="where to write its Markdown")
    asked = parser.parse_args(words)
    study = json.loads((asked.study / "study.json").read_text())
    if asked.page:
        asked.page.write_text(markdown(load_study(asked.study)), encoding="utf-8")
    density = [row for row in study["density"] if row["moment"] in ("start", "end")]
    path = record(f"study_{study['name']}", {"study": _without_paths(study) | {"density": density}}, folder=results)
    print(path)
    return path


def _without_paths(study: dict[str, Any]) -> dict[str, Any]:
    return {key: _drop(value) for key, value in study.items()}


def _drop(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop(item) for key, item in value.items() if key not in LEFT_OUT}
    return value


if __name__ == "__main__":
    main()
