"""What is special about a history: its order, the causal mask, empty places. The rest is in tests/contracts.py."""

import pytest
import torch

from c2al.interaction.sasrec import SASRec

OTHERS, PLACES, DIM = 3, 6, 8


def model(places: int = PLACES, *, num_blocks: int = 2) -> SASRec:
    torch.manual_seed(0)
    made = SASRec(num_tokens=OTHERS + places, dim=DIM, num_places=places, target=1, num_blocks=num_blocks)
    torch.nn.init.normal_(made.position_LD)
    return made.eval()


def rows(lengths: list[int]) -> torch.Tensor:
    """Tokens of rows whose histories are so long: zeros, then the history."""
    x_BFD = torch.randn(len(lengths), OTHERS + PLACES, DIM, generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(lengths):
        x_BFD[row, OTHERS : OTHERS + PLACES - length] = 0
    return x_BFD


def states(made: SASRec, x_BFD: torch.Tensor) -> torch.Tensor:
    """The history's last states, as the candidate finds them."""
    found = {}
    hook = made.norm.register_forward_hook(lambda _, __, output: found.update(h=output))
    made(x_BFD)
    hook.remove()
    return found["h"]


def test_the_order_of_the_history_matters():
    made, x_BFD = model(), rows([6, 6])
    turned = x_BFD.clone()
    turned[:, OTHERS:] = x_BFD[:, OTHERS:].flip(1)
    swapped = x_BFD.clone()
    swapped[:, [OTHERS, OTHERS + 1]] = x_BFD[:, [OTHERS + 1, OTHERS]]
    for other in (turned, swapped):
        assert not torch.allclose(made(other), made(x_BFD), atol=1e-4)


def test_the_causal_mask_holds():
    """A place's state hangs on itself and on earlier places, on no later one."""
    made, x_BFD = model(), rows([6])
    before = states(made, x_BFD)
    for place in range(PLACES):
        changed = x_BFD.clone()
        changed[:, OTHERS + place, 0] += 1.0
        same = states(made, changed).isclose(before, atol=1e-6).all(-1)[0]
        assert same[:place].all()
        assert not same[place:].any(), "each later place sees it"


def test_more_places_than_the_history_change_nothing():
    """Positions are counted from the latest place: one model of 6 places and one of 4 say the same of 3 ids."""
    made, few = model(), model(4)
    state = made.state_dict()
    few.load_state_dict({**state, "position_LD": state["position_LD"][-4:]})
    x_BFD = rows([3, 1, 0])
    torch.testing.assert_close(few(torch.cat([x_BFD[:, :OTHERS], x_BFD[:, -4:]], dim=1)), made(x_BFD))


def test_an_empty_history_says_nothing():
    """It is finite, so is its gradient, and neither positions nor blocks have a part in it."""
    made, x_BFD = model(), rows([0, 0]).requires_grad_()
    out = made(x_BFD)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert x_BFD.grad.isfinite().all()
    assert x_BFD.grad[:, OTHERS:].eq(0).all()
    assert made.position_LD.grad.eq(0).all()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters() if parameter.grad is not None)


def test_the_candidate_reads_the_history():
    """What it finds hangs on which token is the candidate."""
    made, x_BFD, other = model(), rows([6, 6]), model()
    other.target = 0
    assert not torch.allclose(made(x_BFD), other(x_BFD), atol=1e-4)


def test_it_learns_that_the_latest_one_counts():
    """Labels say whether the candidate is like the latest item; the same items turned round say nothing."""
    made, random = model().train(), torch.Generator().manual_seed(1)
    head = torch.nn.Linear(made.out_features, 1)
    adam = torch.optim.Adam([*made.parameters(), *head.parameters()], lr=3e-3)

    def draw(num: int) -> tuple[torch.Tensor, torch.Tensor]:
        x_BFD = torch.randn(num, OTHERS + PLACES, DIM, generator=random)
        return x_BFD, (x_BFD[:, -1] * x_BFD[:, 1]).sum(-1) > 0

    for _ in range(100):
        x_BFD, label_B = draw(256)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(made(x_BFD))[:, 0], label_B.float())
        adam.zero_grad()
        loss.backward()
        adam.step()
    x_BFD, label_B = draw(2000)
    turned = torch.cat([x_BFD[:, :OTHERS], x_BFD[:, OTHERS:].flip(1)], dim=1)
    right, by_chance = (float(((head(made(x))[:, 0] > 0) == label_B).float().mean()) for x in (x_BFD, turned))
    assert right > 0.8
    assert 0.45 < by_chance < 0.55


def test_attention_is_there_to_be_looked_at():
    made, weights = model(), []
    paths = [name for name, _ in made.named_modules() if name.endswith(".attention") or name == "target_attention"]
    assert [name for name in paths if name.endswith(".attention")] == [
        "blocks.0.self_attention.attention",
        "blocks.1.self_attention.attention",
        "target_attention.attention",
    ]
    made.blocks[0].self_attention.attention.register_forward_hook(lambda _, __, output: weights.append(output))
    made(rows([3]))
    (found,) = weights[0]
    assert found.shape == (2, PLACES, PLACES)
    assert found[:, :3].eq(0).all(), "empty places look at nothing"
    assert found[:, :, :3].eq(0).all(), "and nothing looks at them"
    assert found.triu(1).eq(0).all()


@pytest.mark.parametrize(("places", "target"), [(4, 3), (4, -1), (7, 0)])
def test_a_candidate_that_is_none_is_refused(places, target):
    with pytest.raises(ValueError, match="is no candidate: 7 tokens"):
        SASRec(num_tokens=7, dim=DIM, num_places=places, target=target)
