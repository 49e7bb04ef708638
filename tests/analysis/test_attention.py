import numpy as np
import pytest
from scipy import stats

from c2al.analysis.attention import (
    MEASURES,
    attention_of,
    compare_density,
    dead_paths,
    density,
    effective_rank,
    gives_weights,
    measure,
    role,
    row_entropy,
)

FM = "interaction.layers.0.interactions.fm_attention.fm"
NAMES = [
    "embedding.dense.weight_ND",
    f"{FM}.attention.compress.weight_MF",
    f"{FM}.attention.mlp.0.weight",
    "interaction.layers.0.interactions.fm_attention.mlp.0.weight",
    "interaction.layers.0.interactions.self_attention.project.weight",
    "interaction.layers.0.interactions.linear.weight_MF",
    "interaction.layers.1.interactions.fm_attention.fm.y_FK",
    "interaction.output.1.weight",
    "heads.towers.1.0.weight",
]
ROLES = ["before", "attention", "attention", "after", "beside", "beside", "attention", "after", "heads"]


def test_roles():
    assert [role(name, NAMES) for name in NAMES] == ROLES
    assert attention_of(NAMES[2]) == FM
    without = [name for name in NAMES if attention_of(name) is None]
    assert {role(name, without) for name in without} == {"other", "heads"}


def test_roles_of_a_real_dhen():
    from c2al.interaction.dhen import DHEN

    names = [f"interaction.{name}" for name, _ in DHEN(num_tokens=6, dim=8).named_parameters()]
    roles = {name: role(name, names) for name in names}
    assert {name for name in names if roles[name] == "attention"} == {n for n in names if ".fm." in n}
    assert {roles[n] for n in names if ".fm_attention.mlp." in n} == {"after"}
    assert {roles[n] for n in names if ".linear." in n} == {"beside"}
    assert {roles[n] for n in names if n.startswith("interaction.output")} == {"after"}


def test_roles_of_a_real_sasrec():
    """Queries and keys are attention, values and what follows are after it, positions before."""
    from c2al.interaction.sasrec import SASRec

    names = [f"interaction.{name}" for name, _ in SASRec(num_tokens=6, dim=8).named_parameters()]
    roles = {name: role(name, names) for name in names}
    asked = {name for name in names if name.endswith((".query.weight", ".key.weight"))}
    assert len(asked) == 6, "two blocks and the candidate"
    assert {name for name in names if roles[name] == "attention"} == asked
    assert all(gives_weights(name) for name in asked)
    assert not gives_weights(NAMES[1])
    assert not gives_weights(NAMES[6])
    assert {roles[name] for name in names if ".value." in name or ".point_wise." in name or ".deep." in name} == {
        "after"
    }
    assert roles["interaction.position_LD"] == "before"


def test_attention_weights():
    """Entries that the mask makes zero count nowhere; a query with one place has no choice."""
    w = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.96, 0.02, 0.02, 0], [0.25, 0.25, 0.25, 0.25], [0, 0, 0, 0]])
    found = measure(np.stack([w, w])[:, None], initial_std=1.0, of="weights")
    some = w[w > 0]
    assert found["std"] == pytest.approx(some.std())
    assert found["participation"] == pytest.approx((some**2).mean() ** 2 / (some**4).mean())
    entropies = [0, np.log(2), -(0.96 * np.log(0.96) + 0.04 * np.log(0.02)), np.log(4)]
    assert found["row_entropy"] == pytest.approx(np.mean(entropies))
    assert found["evenness"] == pytest.approx((1 + entropies[2] / np.log(3) + 1) / 3)
    assert found["near_uniform"] == pytest.approx(2 / 3)
    assert found["effective_rank"] == pytest.approx(effective_rank(w))
    assert found["dead_paths"] is None


def test_no_choice_has_no_evenness():
    found = measure(np.eye(3), initial_std=1.0, of="weights")
    assert (found["evenness"], found["near_uniform"], found["row_entropy"]) == (None, None, 0)
    nothing = measure(np.zeros((2, 3, 3)), initial_std=0.0, of="weights")
    assert all(nothing[name] is None for name in MEASURES)


def test_gaussian():
    w = np.random.default_rng(0).normal(0, 3, (400, 500))
    found = measure(w, initial_std=3.0)
    assert found["std"] == pytest.approx(3, rel=0.01)
    assert found["kurtosis"] == pytest.approx(stats.kurtosis(w, axis=None))
    assert found["kurtosis"] == pytest.approx(0, abs=0.05)
    assert found["near_zero"] == pytest.approx(stats.norm.cdf(0.01) - stats.norm.cdf(-0.01), rel=0.1)
    assert found["participation"] == pytest.approx(1 / 3, rel=0.02)  # E[w²]² / E[w⁴] of a Gaussian
    assert found["row_entropy"] is None


def test_one_hot_and_constant():
    one_hot = np.zeros((8, 4))
    one_hot[3, 2] = -5.0
    assert measure(one_hot, initial_std=1.0)["participation"] == pytest.approx(1 / 32)
    assert measure(one_hot, initial_std=1.0)["near_zero"] == pytest.approx(31 / 32)
    assert measure(np.full((8, 4), -2.0), initial_std=1.0)["participation"] == pytest.approx(1)


def test_effective_rank():
    rng = np.random.default_rng(1)
    assert effective_rank(np.outer(rng.normal(size=9), rng.normal(size=5))) == pytest.approx(1)
    assert effective_rank(np.eye(6)) == pytest.approx(6)
    singular = np.array([3.0, 1.0])
    share = singular / singular.sum()
    assert effective_rank(np.diag(singular)) == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    both = np.stack([np.eye(4), np.outer(np.ones(4), np.ones(4))])
    assert effective_rank(both) == pytest.approx((4 + 1) / 2)  # a mean over the sample


def test_row_entropy():
    y = np.array([[1.0, -1.0, 1.0, -1.0], [0.0, 7.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert row_entropy(y) == pytest.approx((np.log(4) + 0) / 2)  # the zero row has none


def test_dead_paths_by_brute_force():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(5, 7, 3)), rng.normal(size=(5, 7, 2))
    y[:, 1] *= 1e-4
    x[:, 4] = 0  # a token that is always zero gives G nothing, whatever its row of Y
    y[:, 5] *= 1e-4
    y[0, 5] *= 1e4  # alive in one row of the sample
    given = np.array([[np.linalg.norm(np.outer(x[b] @ x[b, f], y[b, f])) for f in range(7)] for b in range(5)])
    full = np.array([x[b] @ x[b].T @ y[b] for b in range(5)])
    assert np.allclose(
        sum(np.einsum("bi,bk->bik", np.einsum("bid,bd->bi", x, x[:, f]), y[:, f]) for f in range(7)), full
    )
    expected = (given <= 0.01 * given.mean(1, keepdims=True)).all(0)
    assert dead_paths(y, x).tolist() == expected.tolist() == [False, True, False, False, True, False, False]
    assert dead_paths(y).tolist() == [False, True, False, False, False, False, False]
    assert dead_paths(np.array([[1.0, 2.0], [0.0, 0.001]])).tolist() == [False, True]


def test_all_zero_has_no_value():
    found = measure(np.zeros((3, 3)), initial_std=0.0, of="y")
    assert {name for name in MEASURES if found[name] is not None} == {"std", "dead_paths"}


def write_run(folder, rng, *, scale, steps=(0, 10, 20)):
    (folder / "weights").mkdir(parents=True)
    start = rng.normal(size=(6, 4))
    for i, step in enumerate(steps):
        grown = start * (1 + (scale - 1) * i / 2)
        arrays = {
            f"{FM}.y_FK": grown,
            f"{FM}.norm.bias": np.zeros(4),
            "heads.towers.0.0.weight": start,
            f"activation.{FM}.attention": np.stack([grown, grown]),
            f"input.{FM}": rng.normal(size=(2, 6, 3)) * (np.arange(6) > 0)[:, None],  # the first token is always zero
        }
        np.savez(folder / "weights" / f"step_{step:08d}.npz", **{k: v.astype(np.float32) for k, v in arrays.items()})
    return str(folder)


def test_density_of_a_run(tmp_path):
    rows = density(write_run(tmp_path / "run", np.random.default_rng(3), scale=2.0))
    assert [row["step"] for row in rows] == [0] * 4 + [10] * 4 + [20] * 4
    y = [row for row in rows if row["layer"] == f"{FM}.y_FK"]
    assert [row["std"] / y[0]["std"] for row in y] == pytest.approx([1, 1.5, 2])
    assert y[0]["role"] == "attention"
    assert y[0]["near_zero"] >= y[2]["near_zero"]  # the bound stays that of the start
    activation, x = (
        next(r for r in rows if r["kind"] == "activation" and r["role"] == at) for at in ("attention", "before")
    )
    assert activation["layer"] == f"{FM}.attention"
    assert x["layer"] == FM
    assert activation["dead_paths"] == y[0]["dead_paths"] == 1
    assert activation["row_entropy"] == pytest.approx(y[0]["row_entropy"])
    assert density(str(tmp_path / "nothing")) == []


def test_compare_density_pairs_by_seed(tmp_path):
    runs = {
        arm: {
            str(s): write_run(tmp_path / f"{arm}_{s}", np.random.default_rng(s), scale=scale + 0.1 * s)
            for s in range(3)
        }
        for arm, scale in (("baseline", 1.0), ("c2al", 1.5))
    }
    rows = compare_density(runs, reference="baseline")
    at = {(row["moment"], row["layer"], row["kind"]): row for row in rows}
    start = at["start", f"{FM}.y_FK", "parameter"]["measures"]["std"]
    assert (start["ratio"], start["low"], start["high"]) == pytest.approx((1, 1, 1))
    end = at["end", f"{FM}.y_FK", "parameter"]["measures"]["std"]
    ratios = np.log([1.5 / 1.0, 1.6 / 1.1, 1.7 / 1.2])
    low, high = stats.ttest_1samp(ratios, 0).confidence_interval(0.95)
    assert end["ratio"] == pytest.approx(np.exp(ratios.mean()), rel=1e-5)
    assert (end["low"], end["high"]) == pytest.approx((np.exp(low), np.exp(high)), rel=1e-5)
    assert ("step 10", f"{FM}.y_FK", "parameter") in at
    assert {row["arm"] for row in rows} == {"c2al"}
    assert end["arm"] / end["reference"] == pytest.approx(1.45, abs=0.05)


def test_arms_without_weights_give_no_rows(tmp_path):
    runs = {"baseline": {"0": str(tmp_path / "a")}, "c2al": {"0": str(tmp_path / "b")}}
    assert compare_density(runs, reference="baseline") == []
