import json
from pathlib import Path

import pytest
import torch

from benchmarks import architectures
from benchmarks.page import main as write_page


def test_a_small_run_and_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.record.record.__kwdefaults__", {"folder": tmp_path})
    small = ["--rows", "700", "--batch-size", "64", "--steps", "1", "--rounds", "2", "--threads", "1"]
    threads = torch.get_num_threads()
    try:
        architectures.main([*small, "--cells", "sasrec/baseline", "dhen/c2al_least"])
    finally:
        torch.set_num_threads(threads)
    (path,) = tmp_path.iterdir()
    cells = json.loads(path.read_text())["cells"]
    assert list(cells) == ["sasrec/baseline", "dhen/c2al_least"]
    for cell in cells.values():
        assert cell["rows_per_s"] > 0
        assert 2 < cell["flops_per_row"]["step"] / cell["flops_per_row"]["forward"] <= 3
        assert len(cell["ratio"]["rounds"]) == 2
    page = tmp_path / "page.md"
    page.write_text("<!-- results -->\n<!-- end of results -->\n")
    write_page([str(path), "--into", str(page)])
    assert "| sasrec/baseline |" in page.read_text()


def test_cells() -> None:
    """All models with both, and DHEN with every method, once."""
    cells = architectures._all_cells()
    assert len(cells) == len(set(cells))
    assert {"wukong/baseline", "lr/c2al", "dhen/c2al_head_only", architectures.REFERENCE} <= set(cells)
