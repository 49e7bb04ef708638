import io

from matplotlib.image import imread

from c2al.analysis.plan_picture import draw, draw_comparison
from tests.analysis.plan_reports import report

RED, BLUE, ORANGE = (0.8, 0, 0), (0, 0.447, 0.698), (0.835, 0.369, 0)


def drawn(function, *given):
    file = io.BytesIO()
    function(file, *given)
    file.seek(0)
    return imread(file)[..., :3]


def pixels(image, colour):
    return int((abs(image - colour).max(axis=-1) < 0.02).sum())


def test_memory_cost_and_limit():
    """Weights and lookups in blue, what travels in orange, the limit in red where there is one."""
    with_limit, without = (drawn(draw, report(limit=limit)) for limit in (100, None))
    for image in (with_limit, without):
        assert pixels(image, BLUE) > 5000
        assert pixels(image, ORANGE) > 5000
    assert pixels(with_limit, RED) > 500
    assert pixels(without, RED) == 0


def test_one_rank():
    assert drawn(draw, report(report()["ranks"][:1])).size


def test_plans_side_by_side():
    """Those that do not fit in grey."""
    line = {"sharding": "row_wise", "fits": True, "heaviest_bytes": 5 * 2**30, "step_ms": 2.0}
    over = line | {"sharding": "table_wise", "fits": False}
    plans = [line, over, {"sharding": "grid", "fits": False, "refused": "no"}]
    image = drawn(draw_comparison, report(plans=plans, limit=4096))
    assert pixels(image, BLUE) > 5000
    assert pixels(image, (0.733, 0.733, 0.733)) > 5000
    assert pixels(image, RED) > 200


def test_a_limit_far_above_is_told_in_words():
    """Drawn to scale it would leave no bars to see."""
    image = drawn(draw, report(limit=80_000))
    assert pixels(image, ORANGE) > 5000
    assert 0 < pixels(image, RED) < 500
    line = {"sharding": "row_wise", "fits": True, "heaviest_bytes": 2**20, "step_ms": 2.0}
    image = drawn(draw_comparison, report(plans=[line], limit=80_000))
    assert pixels(image, RED) == 0
    assert pixels(image, BLUE) > 50_000
