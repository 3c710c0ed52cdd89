"""How the images of an epoch are cut into batches, and these into parts."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

Part = tuple[slice, float]


def cut(images: int, *, batch_size: int, micro_batches: int, keep_last: bool) -> list[list[Part]]:
    """For each batch its parts: which places of the epoch's order they are, and their shares of the batch.

    batch_size: a multiple of micro_batches. keep_last: whether the images that do not fill a batch are one.

    A part of such a last batch may be short, and where there are none left for it, it stands in with the first part's
    images and a share of 0, so that every process has as many parts as ever.

    >>> cut(6, batch_size=4, micro_batches=2, keep_last=False)
    [[(slice(0, 2, None), 0.5), (slice(2, 4, None), 0.5)]]
    """
    size = batch_size // micro_batches
    whole = images // batch_size * batch_size
    batches = []
    for start in range(0, images if keep_last else whole, batch_size):
        end = min(start + batch_size, images)
        first = slice(start, min(start + size, end))
        cuts = (slice(place, min(place + size, end)) for place in range(start, start + batch_size, size))
        batches.append([(c, (c.stop - c.start) / (end - start)) if c.start < end else (first, 0.0) for c in cuts])
    return batches


@dataclass(frozen=True)
class Mix:
    """How each image of a batch is mixed with the one before it: ``share`` of it stays, blended or as a pasted box.

    box: top, left, bottom and right of what is pasted, in pixels; None to blend.
    """

    share: float
    box: tuple[int, int, int, int] | None


def draw_mix(random: np.random.Generator, *, mixup_alpha: float, cutmix_alpha: float, size: int) -> Mix | None:
    """Mixup or CutMix, each as likely where both are on; None where both are off.

    mixup_alpha, cutmix_alpha: of the beta distribution from which the share comes; 0 is off. size: of the images.

    Source: mixup, Zhang et al. 2017, section 2; CutMix, Yun et al. 2019, section 3.1. As there, the share of a CutMix
    is in the end that of the area left when the box is cut off at the image's edges.
    """
    alphas = [alpha for alpha in (mixup_alpha, cutmix_alpha) if alpha]
    if not alphas:
        return None
    cut = random.random() < 0.5 if len(alphas) == 2 else cutmix_alpha > 0
    alpha = cutmix_alpha if cut else mixup_alpha
    share = float(random.beta(alpha, alpha))
    if not cut:
        return Mix(share, None)
    half = size * (1 - share) ** 0.5 / 2
    y, x = (random.integers(size, size=2)).tolist()
    top, bottom, left, right = (int(min(max(edge, 0), size)) for edge in (y - half, y + half, x - half, x + half))
    return Mix(1 - (bottom - top) * (right - left) / size**2, (top, left, bottom, right))


def mixed(images: Tensor, mix: Mix) -> Tensor:
    """Each image mixed with the one before it, the first with the last.

    images: uint8 (n, size, size, channels). Returns the same, as float32 where they are blended.
    """
    others = images.roll(1, 0)
    if mix.box is None:
        return images.float() * mix.share + others.float() * (1 - mix.share)
    top, left, bottom, right = mix.box
    pasted = images.clone()
    pasted[:, top:bottom, left:right] = others[:, top:bottom, left:right]
    return pasted
