import pytest
import torch

from c2al.heads.towers import Towers
from c2al.interaction.fm_attention import FMAttention, FMBlock
from c2al.objectives.fixed import Fixed
from c2al.objectives.labels import head_labels
from c2al.objectives.per_head import per_head_losses

ROWS, NUM_TOKENS, DIM, RANK = 6, 5, 4, 3


def layer(attentive: bool, **sizes: int) -> FMAttention:
    torch.manual_seed(0)
    shape = {"num_tokens": NUM_TOKENS, "dim": DIM, "rank": RANK, **sizes}
    return FMAttention(attentive=attentive, **shape).double()


def tokens(rows: int = ROWS, num_tokens: int = NUM_TOKENS, dim: int = DIM) -> torch.Tensor:
    return torch.randn(rows, num_tokens, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def y_of(fm: FMAttention, x_BFD: torch.Tensor) -> torch.Tensor:
    return fm.y_FK.expand(len(x_BFD), -1, -1) if fm.attention is None else fm.attention(x_BFD)


@pytest.mark.parametrize("attentive", [True, False])
@pytest.mark.parametrize("gram_first", [True, False])
def test_equals_the_formula_row_by_row_in_either_association(attentive, gram_first):
    fm, x_BFD = layer(attentive), tokens()
    fm.gram_first = gram_first
    expected = torch.stack([x @ x.T @ y for x, y in zip(x_BFD, y_of(fm, x_BFD), strict=True)])
    torch.testing.assert_close(fm(x_BFD), expected)


@pytest.mark.parametrize(
    ("num_tokens", "dim", "rank"), [(25, 16, 8), (5, 64, 32), (8, 8, 8), (100, 64, 24), (3, 4, 12)]
)
def test_takes_the_association_with_fewer_multiplications(num_tokens, dim, rank):
    fm = layer(False, num_tokens=num_tokens, dim=dim, rank=rank)
    assert fm.gram_first == (num_tokens**2 * (dim + rank) < 2 * num_tokens * dim * rank)


@pytest.mark.parametrize("attentive", [True, False])
def test_starts_with_unit_variance(attentive):
    """The root mean square of G over many initialisations, for standard normal tokens."""
    squares = []
    for seed in range(20):
        torch.manual_seed(seed)
        fm = FMAttention(num_tokens=25, dim=16, rank=8, attentive=attentive)
        squares.append(fm(torch.randn(256, 25, 16)).square().mean())
    assert 0.8 < torch.stack(squares).mean().sqrt() < 1.25


def test_small_tokens_do_not_silence_attentive_y():
    """Embedding tables start near zero: Y must keep a part that does not shrink with them."""
    fm = layer(True)
    assert fm.attention(1e-3 * tokens()).std() > 0.5 * fm.attention(tokens()).std()


def test_attentive_y_differs_by_row_and_learned_y_does_not():
    x_BFD = tokens()
    assert y_of(layer(True), x_BFD).std(0).min() > 0
    assert [name for name, _ in layer(False).named_parameters()] == ["y_FK"]


@pytest.mark.parametrize("attentive", [True, False])
def test_gradient_of_y_is_the_sum_over_heads(attentive):
    """∇_Y L = X Xᵀ (∇_G L_primary + λ_head ∇_G L_head + λ_tail ∇_G L_tail), through real towers and losses."""
    fm, x_BFD = layer(attentive), tokens()
    torch.manual_seed(2)
    towers = Towers(in_features=NUM_TOKENS * RANK, num_heads=3, hidden=(8,)).double()
    weights = [1.0, 0.3, 0.7]
    label_B, weight_B = torch.tensor([1.0, 0, 1, 1, 0, 1]).double(), torch.rand(ROWS).double()
    cohort_BA = torch.tensor([[0], [0], [1], [-1], [1], [2]])
    label_BH = head_labels(label_B, cohort_BA, [(0, 0), (0, 2)])
    kept = {}

    def keep(name):
        return lambda module, inputs, out: kept.update({name: out})

    fm.register_forward_hook(keep("g"))
    if fm.attention is not None:
        fm.attention.register_forward_hook(keep("y"))
    logits_BH = towers(fm(x_BFD).flatten(1))
    # per_head_losses works in float32; the same in float64 here
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits_BH, label_BH, reduction="none")
    losses_H = (weight_B[:, None] * bce).sum(0) / ROWS
    torch.testing.assert_close(losses_H.float(), per_head_losses(logits_BH, label_BH.float(), weight_B.float()))

    per_head = [torch.autograd.grad(loss, kept["g"], retain_graph=True)[0] for loss in losses_H]
    formula = x_BFD @ x_BFD.mT @ sum(w * g for w, g in zip(weights, per_head, strict=True))
    total = (Fixed(weights=weights)(losses_H).double() * losses_H).sum()
    y = fm.y_FK if fm.attention is None else kept["y"]
    (grad,) = torch.autograd.grad(total, y)
    # Fixed holds float32: 0.3 and 0.7 to 1e-8
    torch.testing.assert_close(grad, formula if attentive else formula.sum(0), rtol=1e-6, atol=1e-12)
    assert all(g.abs().max() > 0 for g in per_head)


def test_block_does_not_depend_on_the_scale_of_learned_interactions():
    """LayerNorm over G: tokens twice as large give the same tokens out, with learned Y."""
    torch.manual_seed(0)
    block = FMBlock(num_tokens=NUM_TOKENS, dim=DIM, out_tokens=2, rank=RANK, attentive=False).double()
    torch.testing.assert_close(block(8 * tokens()), block(16 * tokens()), rtol=1e-4, atol=1e-4)
