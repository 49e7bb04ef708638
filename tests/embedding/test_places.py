"""The last ids of each row in their order, zeros before them."""

import torch

from c2al.embedding.places import last_places

VALUES_VD = torch.arange(1.0, 7.0).view(6, 1)  # rows of 1, 0, 2 and 3 ids
LENGTHS = torch.tensor([1, 0, 2, 3])


def test_the_last_ids_oldest_first_zeros_before():
    found = last_places(VALUES_VD, LENGTHS, 2)[..., 0]
    assert found.tolist() == [[0, 1], [0, 0], [2, 3], [5, 6]]
    assert last_places(VALUES_VD, LENGTHS, 4)[..., 0].tolist() == [[0, 0, 0, 1], [0] * 4, [0, 0, 2, 3], [0, 4, 5, 6]]


def test_more_places_add_zeros_in_front_and_change_nothing_else():
    few, many = (last_places(VALUES_VD, LENGTHS, places) for places in (3, 5))
    assert torch.equal(many[:, 2:], few)
    assert many[:, :2].eq(0).all()


def test_no_ids_at_all():
    values = torch.empty(0, 3, requires_grad=True)
    found = last_places(values, torch.zeros(2, dtype=torch.long), 2)
    assert found.tolist() == torch.zeros(2, 2, 3).tolist()
    found.sum().backward()
    assert values.grad.shape == (0, 3)
    assert last_places(values, torch.zeros(0, dtype=torch.long), 2).shape == (0, 2, 3)


def test_ids_before_the_last_get_no_gradient():
    values = VALUES_VD.clone().requires_grad_()
    last_places(values, LENGTHS, 2).sum().backward()
    assert values.grad[:, 0].tolist() == [1, 1, 1, 0, 1, 1]


def test_exported_for_any_number_of_rows_and_ids():
    class Places(torch.nn.Module):
        def forward(self, values, lengths):
            return last_places(values, lengths, 2)

    rows, ids = torch.export.Dim("rows"), torch.export.Dim("ids")
    program = torch.export.export(Places(), (VALUES_VD, LENGTHS), dynamic_shapes=({0: ids}, {0: rows})).module()
    assert torch.equal(program(VALUES_VD[:3], LENGTHS[:3]), last_places(VALUES_VD[:3], LENGTHS[:3], 2))
