"""The whole model against its formulas: losses by hand, and the gradient that each head brings."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from c2al.embedding.dense import DenseTokens
from c2al.embedding.tables import embedding_tables
from c2al.embedding.tokens import FeatureTokens
from c2al.heads.towers import Towers
from c2al.interaction.dhen import DHEN
from c2al.interaction.fm_attention import FMBlock
from c2al.model import Objective, Ranker, TrainingModel, num_parameters
from c2al.objectives.fixed import Fixed
from tests.parallel import sharded_world as world

HEAD, TAIL = (1, 0), (1, 2)  # second axis of the batch, its cohorts 0 and 2


def batch(rows: int = 64):
    """Rows with weights of their own and two axes; some are in no cohort."""
    made = world.draw(5, rows).batch()
    random = torch.Generator().manual_seed(1)
    made.weight_B = 0.5 + torch.rand(rows, generator=random)
    made.cohort_BA = torch.randint(-1, 3, (rows, 2), generator=random)
    return made


def model(*, weights=(1.0, 0.3, 0.2), auxiliaries=(HEAD, TAIL), loss_unit=1.0) -> TrainingModel:
    torch.manual_seed(0)
    embedding = FeatureTokens(
        embedding_tables(world.COLUMNS, dim=4, device="cpu"), DenseTokens(num_dense=world.NUM_DENSE, dim=4)
    )

    def block(**sizes):
        return FMBlock(rank=3, attentive=True, compressed_tokens=2, hidden=8, **sizes)

    interaction = DHEN(
        num_tokens=embedding.num_tokens, dim=4, num_layers=1, out_features=6, modules={"fm_attention": block}
    )
    heads = Towers(in_features=6, num_heads=len(weights), hidden=[5], seed=0)
    return TrainingModel(
        Ranker(embedding, interaction, heads),
        Fixed(weights=list(weights)),
        auxiliaries=auxiliaries,
        loss_unit=loss_unit,
    )


def test_the_loss_by_hand():
    """Σ_h λ_h · mean_b w_b · BCE(logit_bh, y_b · 1[b in cohort h]), over the unit of loss."""
    training, rows = model(loss_unit=0.25), batch()
    loss, (losses_H, logits_BH) = training(rows)
    inside = [torch.ones(64), rows.cohort_BA[:, 1].eq(0).float(), rows.cohort_BA[:, 1].eq(2).float()]
    expected = [
        float(
            (
                rows.weight_B
                * functional.binary_cross_entropy_with_logits(
                    logits_BH[:, h], rows.label_B * inside[h], reduction="none"
                )
            ).mean()
            / 0.25
        )
        for h in range(3)
    ]
    assert losses_H.tolist() == pytest.approx(expected, rel=1e-5)
    assert loss.item() == pytest.approx(expected[0] + 0.3 * expected[1] + 0.2 * expected[2], rel=1e-5)
    assert not losses_H.requires_grad
    assert not logits_BH.requires_grad


def gradients(training: TrainingModel, rows) -> dict[str, torch.Tensor]:
    training.zero_grad()
    training(rows)[0].backward()
    return {name: torch.zeros(()) if p.grad is None else p.grad.clone() for name, p in training.named_parameters()}


def test_the_gradient_is_the_sum_of_the_heads():
    """∇ total = ∇ primary + Σ λ ∇ auxiliary, for every shared parameter, tables among them."""
    rows = batch()
    total = gradients(model(), rows)
    alone = [gradients(model(weights=[float(h == k) for k in range(3)]), rows) for h in range(3)]
    shared = [name for name in total if "towers" not in name]
    assert any("tables" in name for name in shared)
    for name in shared:
        assert alone[1][name].abs().max() > 0, f"the auxiliary head reaches {name}"
        expected = alone[0][name] + 0.3 * alone[1][name] + 0.2 * alone[2][name]
        torch.testing.assert_close(total[name], expected, rtol=1e-4, atol=1e-7)


def test_the_gradient_of_attention_is_that_of_what_it_weighs():
    """G = X (Xᵀ Y): ∇_Y of the total is X Xᵀ (∇_G primary + Σ λ ∇_G auxiliary), row by row."""
    training, rows = model(), batch()
    fm = next(each for name, each in training.named_modules() if name.endswith(".fm"))
    seen = {}
    fm.register_forward_hook(lambda _, inputs, output: seen.update(x=inputs[0], g=output))
    fm.attention.register_forward_hook(lambda _, inputs, output: seen.update(y=output))
    logits_BH = training.ranker(rows)
    objective = training.objective
    losses = []
    for weights in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.3, 0.2]):
        objective.weighting = Fixed(weights=weights)
        losses.append(objective(logits_BH, rows.label_B, rows.weight_B, rows.cohort_BA)[0])
    per_head = [torch.autograd.grad(loss, seen["g"], retain_graph=True)[0] for loss in losses[:3]]
    total_g = (per_head[0] + 0.3 * per_head[1] + 0.2 * per_head[2]).view_as(seen["y"])
    (total_y,) = torch.autograd.grad(losses[3], seen["y"])
    x_BFD = seen["x"]
    torch.testing.assert_close(total_y, x_BFD @ (x_BFD.transpose(1, 2) @ total_g), rtol=1e-4, atol=1e-7)


def test_auxiliary_heads_change_nothing_of_the_primary_one_at_the_start():
    with_aux, without = model(), model(weights=[1.0], auxiliaries=())
    assert torch.equal(with_aux.ranker(batch())[:, 0], without.ranker(batch())[:, 0])
    own = dict(with_aux.named_parameters())
    assert all(torch.equal(parameter, own[name]) for name, parameter in without.named_parameters())


def test_evaluation_needs_no_cohorts():
    """Logits as in training; the losses are zeros."""
    training, rows = model(), batch()
    logits_BH = training(rows)[1][1]
    rows.cohort_BA = torch.empty(64, 0, dtype=torch.long)
    loss, (losses_H, evaluated_BH) = training.eval()(rows)
    assert torch.equal(evaluated_BH, logits_BH)
    assert (loss.item(), losses_H.tolist()) == (0, [0, 0, 0])


def test_rows_of_weight_zero_count_nowhere():
    training, rows = model(), batch()
    rows.weight_B[10:] = 0
    few = gradients(training, rows)
    rows.label_B[10:] = 1 - rows.label_B[10:]
    assert all(torch.equal(few[name], each) for name, each in gradients(training, rows).items())


def test_the_last_losses_are_kept_for_the_report_of_a_failure():
    objective = Objective(Fixed(weights=[1.0]), [], 1.0)
    logits_BH = torch.tensor([[0.0], [math.nan]], requires_grad=True)
    objective(logits_BH, torch.ones(2), torch.ones(2), torch.empty(2, 0, dtype=torch.long))
    assert objective.last_losses_H.isnan().all()


def test_straight_lines_that_the_pipeline_can_trace():
    """The pipeline traces what contains the tables; the rest is a leaf."""
    training = model()
    assert isinstance(training.ranker.embedding.order, nn.Module)
    from torch import fx

    class Tracer(fx.Tracer):
        def is_leaf_module(self, module, name):
            return not name.endswith(("ranker", "embedding")) and name != ""

    graph = Tracer().trace(training)
    called = [node.target for node in graph.nodes if node.op == "call_module"]
    assert called == [
        *("ranker.embedding.tables", "ranker.embedding.order", "ranker.embedding.dense"),
        *("ranker.interaction", "ranker.heads", "objective"),
    ]


def test_parameters_of_tables_and_of_the_rest():
    counts = num_parameters(model().ranker)
    assert counts["tables"] == 4 * sum(column.num_rows for column in world.COLUMNS)
    assert sum(counts.values()) == sum(p.numel() for p in model().ranker.parameters())
