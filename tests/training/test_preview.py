"""A plan before it runs: fits or not, what would, and nothing allocated."""

import json
import resource

import pytest

from c2al.cli import compose
from c2al.parallel import ranks as process_group
from c2al.parallel.optimizers import Optimizers, Schedule, dense_adam
from c2al.parallel.plan import SHARDINGS
from c2al.schema import CohortAxis, DataError, DenseColumn, Schema, SparseColumn
from c2al.training import build
from c2al.training.auxiliaries import auxiliaries
from c2al.training.preview import Planner, balance
from tests import runs
from tests.live_bytes import LiveBytes

SCHEMA = Schema(
    name="large",
    label="y",
    sparse=(SparseColumn("big", 10_000_000_000), SparseColumn("user", 1_000_000), SparseColumn("tags", 30, multi=True)),
    dense=(DenseColumn("age"),),
    axes=(CohortAxis("country", ("de", "fr")),),
)


def planner(*words, memory_gib=80, schema=SCHEMA):
    own = ["data.path=nowhere", "model.dim=64", "parallel.device=cuda", "parallel.world_size=16"]
    return Planner(compose("plan", [*own, f"parallel.memory_gib={memory_gib}", *words]), schema)


def test_ten_billion_rows_are_planned_without_a_byte_of_them():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = planner("parallel=row_wise", memory_gib=400).report()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    assert report["fits"]
    assert sum(rank["weights_bytes"] for rank in report["ranks"]) == 4 * 64 * (10_000_000_000 + 1_000_000 + 30)
    assert report["heaviest_bytes"] == max(
        sum(rank[f"{part}_bytes"] for part in ("weights", "optimizer", "dense", "activations"))
        for rank in report["ranks"]
    )
    json.dumps(report)


def test_what_does_not_fit_says_how_many_ranks_would():
    """5.12 TB of weights and state, 72 GiB a device: 66.3 devices at the least, so 9 hosts of 8."""
    report = planner("parallel=row_wise").report()
    assert (report["fits"], report["first_over"]) == (False, 0)
    assert report["remedy"] == "row_wise would fit on 72 ranks (9 hosts of 8)"
    assert planner("parallel=row_wise", "parallel.world_size=72").report()["fits"]
    assert not planner("parallel=row_wise", "parallel.world_size=64").report()["fits"]


def test_what_never_fits_says_which_sharding_would():
    own = planner("parallel=table_wise")
    assert own.would_fit() is None
    assert own.remedy() == "table_wise fits on no number of ranks; row_wise would, on 72 ranks (9 hosts of 8)"
    assert "nor does any other sharding" in planner("parallel=table_wise", memory_gib=0.1).remedy()


def test_plans_compared():
    """Those that fit first, quickest first, and what is refused last, with the reason."""
    own = planner("training.sparse.optimizer=rowwise_adagrad", memory_gib=400)
    lines = own.compare(own.comparable)["plans"]
    assert {line["sharding"] for line in lines} == {"auto", *SHARDINGS}
    fitting = [line["step_ms"] for line in lines if line["fits"]]
    assert fitting == sorted(fitting)
    assert [line["fits"] for line in lines] == sorted((line["fits"] for line in lines), reverse=True)
    assert "row moment of its own" in lines[-1]["refused"]


def test_single_tables_may_have_plans_of_their_own():
    """The config's plan keeps them; another sharding, compared with it, takes all tables alike."""
    own = planner(
        "parallel=custom",
        *(f"parallel.tables.{own}" for own in ("big=grid", "user=row_wise", "tags=table_wise")),
        memory_gib=400,
    )
    assert [each.sharding for each in own.place()] == ["grid", "row_wise", "table_wise"]
    assert {each.sharding for each in own.place("grid")} == {"grid"}
    lines = {line["sharding"]: line for line in own.compare(own.comparable)["plans"]}
    assert lines["custom"]["fits"]
    assert lines["custom"]["step_ms"] > lines["grid"]["step_ms"]  # rows of one table go between hosts


def test_unified_memory_makes_it_fit():
    """The large table in the hosts' memory, a fifth of its rows cached: 512 GB less its state over the ranks."""
    words = ["parallel=row_wise", "parallel.tables.big={sharding: row_wise, kernel: fused_uvm_caching}"]
    report = planner(*words, memory_gib=50).report()
    assert report["fits"]
    assert report["step_ms"] > planner("parallel=row_wise", memory_gib=50).preview().step_ms
    assert sum(rank["host_bytes"] for rank in report["ranks"]) == 2 * 4 * 64 * 10_000_000_000
    assert planner(*words, memory_gib=5).remedy() == "row_wise would fit on 120 ranks (15 hosts of 8)"


def test_headroom_and_no_limit():
    assert planner(memory_gib=10).limit == 9 * 2**30
    assert planner("parallel.headroom=0.5", memory_gib=10).limit == 5 * 2**30
    unlimited = planner("parallel.device=cpu", memory_gib="null")
    assert unlimited.limit is None
    assert unlimited.report()["fits"]


def test_ids_of_a_row_count():
    few, many = (planner(f"ids_per_row.tags={ids}").preview() for ids in (1, 100))
    assert many.step_ms > few.step_ms
    assert many.heaviest > few.heaviest


HISTORY = ("model=sasrec", "data=parquet", "model.sequences={tags:20}", "model.target=user")


def test_a_sequence_is_planned_with_its_rows_unpooled():
    """Each id's row travels, not their sum: 11 ids more are 11 rows of 64 numbers more, there, back, and sent."""
    few, many = (planner(*HISTORY, "parallel=row_wise", f"ids_per_row.tags={ids}").preview() for ids in (1, 12))
    tags = next(table for table in many.report()["tables"] if table["table"] == "tags")
    assert tags["sequence"]
    assert many.step_ms > few.step_ms
    assert many.memory[0].activations - few.memory[0].activations >= 11 * 4096 * 64 * 4 * 3


def test_plans_that_sequences_cannot_have_are_refused_last():
    own = planner(*HISTORY, memory_gib=400)
    lines = {line["sharding"]: line for line in own.compare(own.comparable)["plans"]}
    refused = {name for name, line in lines.items() if "refused" in line}
    assert refused == {"data_parallel", "grid", "table_row_wise", "table_column_wise"}
    assert all("column tags" in lines[name]["refused"] for name in refused)


def test_rows_of_a_step_count_but_tables_do_not_grow():
    small, large = (planner(f"training.batch_size={rows}", "method=c2al").preview().memory[0] for rows in (1024, 8192))
    assert large.activations == pytest.approx(8 * small.activations, rel=0.01)
    assert (large.weights, large.dense) == (small.weights, small.dense)


def test_settings_are_checked_first():
    with pytest.raises(DataError, match=r"parallel\.sharding"):
        planner("parallel.sharding=diagonal")
    with pytest.raises(DataError, match=r"parallel\.device"):
        planner("parallel.device=abacus")


def test_balance():
    assert balance([1, 2, 3]) == 1.5
    assert balance([0, 0]) == 1.0


@pytest.fixture
def one_rank():
    yield process_group.start()
    process_group.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [[], ["model.dim=64"], ["method=c2al", *runs.PAIR], ["model=sasrec"]],
    ids=["dhen", "wide", "c2al", "sasrec"],
)
def test_a_step_holds_what_was_said(words, tiny_rows, one_rank):
    """A real step of 1,024 rows: tables and Adam to the byte, what the step adds within a fifth, and never less."""
    words = [f"data.path={tiny_rows}", "training.batch_size=1024", "parallel.device=cpu", *words]
    config, schema = compose("plan", words), Schema.load(tiny_rows)
    own = Planner(config, schema)
    said = own.preview(world_size=1).memory[0]
    heads = auxiliaries(config, schema)
    model = build.build_training_model(config, schema, heads)
    sharded = build.distribute(config, model, own.place(world_size=1), one_rank)
    dense = dense_adam(sharded, learning_rate=0.001)
    optimizers = Optimizers(sharded.fused_optimizer, dense, schedule=Schedule(9), max_grad_norm=1.0)
    batches = build.build_reader(config, one_rank, split="train", axes=heads.axes, shuffle=True).batches()
    step(sharded, optimizers, next(batches))
    batch = next(batches)
    with LiveBytes() as live:
        step(sharded, optimizers, batch)
    parameters = [p for group in dense.param_groups for p in group["params"]]
    held = [*parameters, *(p.grad for p in parameters), *(m for each in dense.state.values() for m in moments(each))]
    assert said.dense == sum(tensor.numel() * tensor.element_size() for tensor in held)
    added = live.peak - own.dense.parameters + 2 * batch_bytes(batch)  # gradients are new in each step; batches are not
    assert added <= said.activations <= 1.2 * added


def step(sharded, optimizers, batch):
    optimizers.zero_grad()
    loss, _ = sharded(batch)
    loss.backward()
    optimizers.step()


def moments(state):
    return [state["exp_avg"], state["exp_avg_sq"]]


def batch_bytes(batch):
    ids = batch.sparse
    parts = [batch.dense_BN, batch.label_B, batch.weight_B, batch.cohort_BA, batch.row_B]
    return sum(part.nbytes for part in (*parts, ids.values(), ids.lengths(), ids.offsets()))
