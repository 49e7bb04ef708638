import json
from pathlib import Path

from benchmarks.record import hardware, record


def test_record_says_what_and_where(tmp_path: Path) -> None:
    path = record("reader", {"rows_per_s": 5}, folder=tmp_path / "new")
    written = json.loads(path.read_text())
    assert written["rows_per_s"] == 5
    assert path.name == f"reader_{hardware()['name']}_{written['date'][:10]}.json"
    assert written["hardware"]["cores"] >= 1
    assert {"python", "numpy", "pyarrow"} <= set(written["versions"])
    assert [found.name for found in path.parent.iterdir()] == [path.name]
