import numpy as np
import torch
from sklearn.metrics import log_loss

from c2al.objectives.per_head import per_head_losses


def batch(rows: int = 500) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits_BH = 3 * torch.randn(rows, 3, generator=generator)
    label_BH = (torch.rand(rows, 3, generator=generator) < 0.3).float()
    return logits_BH, label_BH, 0.5 + torch.rand(rows, generator=generator)


def test_equals_scikit_learn():
    logits_BH, label_BH, weight_B = batch()
    losses_H = per_head_losses(logits_BH, label_BH, weight_B)
    expected = [
        log_loss(label, torch.sigmoid(logit.double()), sample_weight=weight_B) * weight_B.mean()
        for label, logit in zip(label_BH.T, logits_BH.T, strict=True)
    ]
    np.testing.assert_allclose(losses_H, expected, rtol=1e-5)


def test_a_filler_takes_part_in_the_count_alone():
    logits_BH, label_BH, weight_B = batch(4)
    weight_B[3] = 0
    expected = per_head_losses(logits_BH[:3], label_BH[:3], weight_B[:3]) * 3 / 4
    torch.testing.assert_close(per_head_losses(logits_BH, label_BH, weight_B), expected)


def test_extreme_and_bf16_logits_stay_finite():
    logits_BH, label_BH, weight_B = batch(4)
    for logits in (1e4 * logits_BH, logits_BH.bfloat16()):
        losses_H = per_head_losses(logits, label_BH, weight_B)
        assert losses_H.isfinite().all()
        assert losses_H.dtype == torch.float32
