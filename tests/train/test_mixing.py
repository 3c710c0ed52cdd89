"""Mixup and CutMix, by hand and against torchvision."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot
from trainings import RECIPE

from imgpipe.train.loop import batch_loss
from imgpipe.train.micro_batches import Mix, draw_mix, mixed

IMAGES = torch.arange(3, dtype=torch.uint8)[:, None, None, None] * 100 + torch.zeros(3, 4, 4, 1, dtype=torch.uint8)


def draws(count: int, **alphas: float) -> list[Mix | None]:
    recipe = replace(RECIPE, **alphas)  # type: ignore[arg-type]
    return [draw_mix(recipe, 32, epoch=0, number=i) for i in range(count)]


def test_mixup_blends_each_image_with_the_one_before_it() -> None:
    blended = mixed(IMAGES, Mix(0.75, None))
    assert blended[:, 0, 0, 0].tolist() == [0.75 * 0 + 0.25 * 200, 0.75 * 100, 0.75 * 200 + 0.25 * 100]


def test_cutmix_pastes_a_box_of_the_one_before_it() -> None:
    pasted = mixed(IMAGES, Mix(0.75, (0, 1, 2, 3)))[..., 0]
    assert pasted[1].tolist() == [[100, 0, 0, 100], [100, 0, 0, 100], [100] * 4, [100] * 4]
    assert pasted[0, 0].tolist() == [0, 200, 200, 0]
    assert IMAGES.unique().tolist() == [0, 100, 200]


def test_the_share_of_a_cutmix_is_the_area_that_stayed() -> None:
    for mix in draws(200, mixup_alpha=0.0, cutmix_alpha=1.0):
        assert mix
        assert mix.box
        top, left, bottom, right = mix.box
        assert 0 <= top <= bottom <= 32
        assert 0 <= left <= right <= 32
        assert mix.kept == pytest.approx(1 - (bottom - top) * (right - left) / 1024)


def test_shares_come_from_the_beta_distribution_and_both_ways_are_as_likely() -> None:
    """Beta(0.4, 0.4) has mean 0.5 and variance 1 / (4 (2 x 0.4 + 1)) = 0.139."""
    shares = [mix.kept for mix in draws(2000, mixup_alpha=0.4, cutmix_alpha=0.0) if mix]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(0.139, abs=0.01)
    both = draws(1000, mixup_alpha=0.4, cutmix_alpha=1.0)
    assert 440 < sum(mix is not None and mix.box is None for mix in both) < 560
    assert draws(3, mixup_alpha=0.0, cutmix_alpha=0.0) == [None] * 3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mix_is_that_of_mixed_labels(smoothing: float) -> None:
    logits, labels = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 4])
    hard = one_hot(labels, 5).float()
    soft = 0.3 * hard + 0.7 * hard.roll(1, 0)
    loss = batch_loss(logits, labels, Mix(0.3, None), label_smoothing=smoothing, class_weights=None)
    assert loss.item() == pytest.approx(cross_entropy(logits, soft, label_smoothing=smoothing).item())
    plain = batch_loss(logits, labels, None, label_smoothing=smoothing, class_weights=None)
    assert plain.item() == pytest.approx(cross_entropy(logits, labels, label_smoothing=smoothing).item())
