import pytest

from c2al.cli import compose
from c2al.schema import DataError, Schema, SparseColumn
from c2al.training.preview_settings import check_preview

SCHEMA = Schema(name="mine", label="y", sparse=(SparseColumn("user", 10), SparseColumn("tags", 10, multi=True)))
GOOD = ("parallel.memory_gib=0.5", "parallel.bandwidths={hbm: 3350}", "ids_per_row={tags: 2.5}", "parallel.headroom=0")


def test_what_may_be():
    check_preview(compose("plan", []), SCHEMA)
    check_preview(compose("plan", list(GOOD)), SCHEMA)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("parallel.world_size=0", r"parallel\.world_size cannot be that \(value 0\).*from 1"),
        ("parallel.ranks_per_host=1.5", r"parallel\.ranks_per_host"),
        ("parallel.device=tpu", r"cpu or cuda"),
        ("parallel.memory_gib=-1", r"parallel\.memory_gib"),
        ("parallel.headroom=1", r"parallel\.headroom"),
        ("parallel.bandwidths={nvlink: 900}", r"hbm, ddr, intra_host, inter_host"),
        ("parallel.bandwidths.hbm=fast", r"parallel\.bandwidths"),
        ("ids_per_row.tag=3", r"no sparse column \(column tag\).*user, tags"),
        ("ids_per_row.tags=-3", r"ids_per_row cannot be that \(column tags, value -3\)"),
    ],
)
def test_what_may_not(word, said):
    with pytest.raises(DataError, match=said):
        check_preview(compose("plan", [word]), SCHEMA)
