"""The tables' optimizers in plain torch, by their formulas."""

import torch
from torch import nn

RATES = {"sgd": 0.5, "adagrad": 0.2, "rowwise_adagrad": 0.2}
EPS = 1e-6


class RowWiseAdagrad:
    """One moment a row: m += mean(g²); w -= lr · g / (√m + eps)."""

    def __init__(self, weights: list[nn.Parameter], *, lr: float, eps: float) -> None:
        self.weights, self.lr, self.eps = weights, lr, eps
        self.moments = [torch.zeros(len(weight), 1) for weight in weights]

    @torch.no_grad()
    def step(self) -> None:
        for weight, moment in zip(self.weights, self.moments, strict=True):
            moment += weight.grad.square().mean(1, keepdim=True)
            weight -= self.lr * weight.grad / (moment.sqrt() + self.eps)


def plain_optimizer(name: str, weight: nn.Parameter):
    if name == "sgd":
        return torch.optim.SGD([weight], lr=RATES[name])
    if name == "adagrad":
        return torch.optim.Adagrad([weight], lr=RATES[name], eps=EPS)
    return RowWiseAdagrad([weight], lr=RATES[name], eps=EPS)


def plain_moment(optimizer, weight: nn.Parameter) -> torch.Tensor | None:
    if isinstance(optimizer, RowWiseAdagrad):
        return optimizer.moments[0][:, 0]
    return optimizer.state[weight]["sum"] if isinstance(optimizer, torch.optim.Adagrad) else None
