import torch
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from c2al.batch import Batch

LENGTHS_FB = torch.tensor([[1, 1, 1], [0, 3, 2]])
VALUES = torch.tensor([7, 8, 9, 0, 1, 2, 3, 3])


def batch() -> Batch:
    return Batch.from_arrays(
        keys=["item", "tags"],
        values=VALUES,
        lengths_FB=LENGTHS_FB,
        length_per_key=[3, 5],
        dense_BN=torch.tensor([[0.5], [1.5], [2.5]]),
        label_B=torch.tensor([0.0, 1.0, 0.0]),
        weight_B=torch.tensor([1.0, 2.0, 0.0]),
        cohort_BA=torch.tensor([[0, 1], [-1, 2], [1, -1]]),
        row_B=torch.tensor([4, 2, -1]),
    )


def test_what_is_given_equals_what_torchrec_computes() -> None:
    given = batch().sparse
    plain = KeyedJaggedTensor(keys=["item", "tags"], values=VALUES, lengths=LENGTHS_FB.reshape(-1))
    assert given.stride() == plain.stride() == 3
    assert given.length_per_key() == plain.length_per_key()
    assert given.offset_per_key() == plain.offset_per_key()
    assert torch.equal(given.offsets(), plain.offsets())
    assert [bag.tolist() for bag in given["tags"].to_dense()] == [[], [0, 1, 2], [3, 3]]


def test_bags_are_pooled_as_by_hand() -> None:
    tables = [
        EmbeddingBagConfig(name=key, embedding_dim=4, num_embeddings=10, feature_names=[key], pooling=PoolingType.SUM)
        for key in ("item", "tags")
    ]
    embedding = EmbeddingBagCollection(tables=tables)
    pooled = embedding(batch().sparse).to_dict()
    item, tags = (embedding.embedding_bags[key].weight for key in ("item", "tags"))
    torch.testing.assert_close(pooled["item"], item[[7, 8, 9]])
    by_hand = torch.stack([torch.zeros(4), tags[0] + tags[1] + tags[2], tags[3] * 2])
    torch.testing.assert_close(pooled["tags"], by_hand)


def test_every_part_moves() -> None:
    moved = batch().to(torch.device("meta"))
    assert len(moved) == len(batch()) == 3
    assert {part.device.type for part in (*moved._parts()[0:1], *moved._parts()[2:])} == {"meta"}
    assert moved.sparse.values().is_meta
    assert moved.sparse.lengths().is_meta
    same = batch().to(torch.device("cpu"), non_blocking=True)
    for part, kept in zip(batch()._parts(), same._parts(), strict=True):
        if isinstance(part, torch.Tensor):
            assert torch.equal(part, kept)
    assert same.sparse.length_per_key() == [3, 5]
