import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from c2al.serving.gauges import Gauges


def read(gauges: Gauges) -> dict[str, float]:
    families = text_string_to_metric_families(gauges.text().decode())
    return {sample.name: sample.value for family in families for sample in family.samples if "le" not in sample.labels}


def test_names_and_values_in_prometheus_form():
    waiting = [3]
    gauges = Gauges(lambda: waiting[0], lambda: 5)
    gauges.requests.labels("/score", 200).inc()
    gauges.ran(48, 0.25)
    found = read(gauges)
    assert found["c2al_requests_total"] == 1
    assert (found["c2al_batch_rows_sum"], found["c2al_batch_rows_count"]) == (48, 1)
    assert (found["c2al_model_seconds_sum"], found["c2al_model_seconds_count"]) == (0.25, 1)
    assert (found["c2al_queue_requests"], found["c2al_in_hand_requests"]) == (3, 5)
    waiting[0] = 0
    assert read(gauges)["c2al_queue_requests"] == 0


def test_two_services_do_not_share():
    one, other = Gauges(lambda: 0, lambda: 0), Gauges(lambda: 0, lambda: 0)
    one.rows.inc(7)
    assert (read(one)["c2al_rows_total"], read(other)["c2al_rows_total"]) == (7, 0)


def test_the_page_names_all_of_them_and_no_other():
    page = (Path(__file__).parents[2] / "docs/http.md").read_text(encoding="utf-8")
    named = {name.removesuffix("_total").removesuffix("_info") for name in re.findall(r"`(c2al_[a-z_]+)", page)}
    families = text_string_to_metric_families(Gauges(lambda: 0, lambda: 0).text().decode())
    own = {family.name.removesuffix("_info") for family in families if family.name.startswith("c2al")}
    assert named == {name for name in own if not name.endswith("_created")}
