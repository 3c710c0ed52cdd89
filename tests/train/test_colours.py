"""Changes of colour against torchvision's functionals, on PIL images and on tensors."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.transforms.v2 import functional as tv

from imgpipe.data.packed import Pixels
from imgpipe.train import policies
from imgpipe.train.policies import (
    COLOUR_JITTER_DRAWS,
    JITTER_ORDERS,
    Levels,
    autocontrast,
    brightened,
    brightness,
    colour_jitter,
    contrast,
    equalize,
    hue,
    on_pixels,
    posterize,
    saturation,
    sharpness,
    solarize,
)


def pil(image: Pixels) -> Image.Image:
    return Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)


def pixels(image: Image.Image) -> Pixels:
    array = np.array(image)
    return array if array.ndim == 3 else array[:, :, np.newaxis]


def grey(image: Pixels) -> Pixels:
    return pixels(pil(image).convert("L"))


def read_only(image: Pixels) -> Pixels:
    image = image.copy()
    image.flags.writeable = False
    return image


PHOTO = read_only(load_sample_image("china.jpg")[200:320, 200:360])
NOISE = read_only(np.random.default_rng(0).integers(0, 256, (97, 64, 3), dtype=np.uint8))
IMAGES = {
    "photo": PHOTO,
    "grey photo": read_only(grey(PHOTO)),
    "noise": NOISE,
    "grey noise": read_only(grey(NOISE)),
    "mirrored photo": PHOTO[:, ::-1],
    "mirrored grey photo": read_only(grey(PHOTO))[:, ::-1],
}

DRAWN = np.random.default_rng(1)
FACTORS = [0.0, 1.0, 2.0, *DRAWN.uniform(0, 2.5, 20).tolist()]
SHIFTS = [-0.5, 0.0, 0.5, *DRAWN.uniform(-0.5, 0.5, 20).tolist()]
THRESHOLDS = [0.0, 128.0, 255.0, *DRAWN.uniform(0, 255, 20).tolist()]

# ours, torchvision's, the arguments, and how far a value of a uint8 tensor may be off, of 255
FUNCTIONS: dict[str, tuple[Callable[..., Pixels], Callable[..., Any], Iterable[tuple[Any, ...]], int]] = {
    "brightness": (on_pixels(brightness), tv.adjust_brightness, [(f,) for f in FACTORS], 0),
    "brightness, looked up": (brightened, tv.adjust_brightness, [(f,) for f in FACTORS], 0),
    # tensors: the greys are cut where Pillow rounds them, and their mean is not rounded
    "contrast": (on_pixels(contrast), tv.adjust_contrast, [(f,) for f in FACTORS], 1),
    # tensors: the grey is cut where Pillow rounds it, which a factor of up to 2.5 makes more of
    "saturation": (on_pixels(saturation), tv.adjust_saturation, [(f,) for f in FACTORS], 2),
    "sharpness": (on_pixels(sharpness), tv.adjust_sharpness, [(f,) for f in FACTORS], 0),
    "posterize": (posterize, tv.posterize, [(bits,) for bits in range(1, 9)], 0),
    "solarize": (solarize, tv.solarize, [(t,) for t in THRESHOLDS], 0),
    # tensors: float32 of what Pillow has in float64, then cut to whole values
    "autocontrast": (autocontrast, tv.autocontrast, [()], 1),
    "equalize": (equalize, tv.equalize, [()], 0),
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize(("ours", "theirs", "arguments", "_tolerance"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_change_is_bit_for_bit_torchvision_s_of_a_pil_image(
    image: Pixels,
    ours: Callable[..., Pixels],
    theirs: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
    _tolerance: int,
) -> None:
    for values in arguments:
        changed = ours(image, *values)
        assert changed.dtype == np.uint8
        assert np.array_equal(changed, pixels(theirs(pil(image), *values))), values


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize(("ours", "theirs", "arguments", "tolerance"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_change_is_near_torchvision_s_of_a_tensor(
    image: Pixels,
    ours: Callable[..., Pixels],
    theirs: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
    tolerance: int,
) -> None:
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    for values in arguments:
        expected = theirs(tensor, *values).numpy().transpose(1, 2, 0)
        assert np.abs(ours(image, *values).astype(int) - expected).max() <= tolerance, values


@pytest.mark.parametrize(("ours", "_theirs", "arguments", "_tolerance"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_change_does_not_write_to_its_image(
    ours: Callable[..., Pixels], _theirs: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], _tolerance: int
) -> None:
    for original in (PHOTO, grey(PHOTO)):
        image = original.copy()
        for values in arguments:
            ours(image, *values)
            assert np.array_equal(image, original), values


def test_an_image_of_one_value_stays_as_it_is_where_there_is_nothing_to_stretch() -> None:
    flat = np.full((40, 32, 3), 77, dtype=np.uint8)
    for change in (autocontrast, equalize):
        assert np.array_equal(change(flat), flat)


TWO_GREYS = np.array([[[100], [250]]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("order", "expected"), [(0.0, [157, 222]), (0.999, [171, 255])], ids=["brightness first", "contrast first"]
)
def test_a_colour_jitter_worked_out_by_hand(order: float, expected: list[int]) -> None:
    """Brightness is 0.5 + 0.75 = 1.25 and contrast 0.5.

    Brightness first: 125 and 312.5, cut to 255, of mean 190; from there half as far are 157.5 and 222.5.
    Contrast first: half as far from the mean of 175 are 137.5 and 212.5, cut; times 1.25, 171.25 and 265.
    """
    row = np.array([0.75, 0.0, 0.9, 0.9, order])
    jittered = colour_jitter(TWO_GREYS, row, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5)
    assert jittered[0, :, 0].tolist() == expected


def test_a_turn_of_hue_worked_out_by_hand() -> None:
    """0.84 of the way from -0.5 to 0.5 is 0.34, or 122.4 degrees: 120 from red to green, and 2.4 of 60 to cyan."""
    red = np.array([[[255, 0, 0]]], dtype=np.uint8)
    row = np.array([0.9, 0.9, 0.9, 0.84, 0.9])
    turned = colour_jitter(red, row, brightness=0, contrast=0, saturation=0, hue=0.5)
    assert turned.tolist() == [[[0, 255, 10]]]


def test_the_hue_of_every_colour_is_turned_to_within_half_a_level() -> None:
    """All 2 ** 24 colours, each 256 x 1024 of them by another shift, against torchvision's floats, which are 0 to 1."""
    colours = np.stack(np.meshgrid(*[np.arange(256, dtype=np.float32)] * 3, indexing="ij"), -1).reshape(64, 512, 512, 3)
    for levels, shift in zip(colours, [*SHIFTS, *np.linspace(-0.5, 0.5, 64 - len(SHIFTS))], strict=True):
        exact = 255 * tv.adjust_hue(torch.from_numpy(levels / 255).permute(2, 0, 1), shift).permute(1, 2, 0)
        hue(levels, shift)
        assert (levels == levels.astype(np.uint8)).all()
        assert np.abs(levels - exact.numpy()).max() < 0.5 + 1e-3, shift


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_a_turned_hue_is_near_torchvision_s_of_uint8(image: Pixels) -> None:
    """A tensor is cut. One of Pillow's 256 hues is up to 6 levels; the hue, its turn and the circle each lose one."""
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    for shift in SHIFTS:
        turned = on_pixels(hue)(image, shift).astype(int)
        assert np.abs(turned - tv.adjust_hue(tensor, shift).numpy().transpose(1, 2, 0)).max() <= 1, shift
        assert np.abs(turned - pixels(tv.adjust_hue(pil(image), shift))).max() <= 19, shift


def test_amounts_of_0_leave_the_image_as_it_is() -> None:
    for row in np.random.default_rng(2).random((20, COLOUR_JITTER_DRAWS)):
        assert np.array_equal(colour_jitter(PHOTO, row, brightness=0, contrast=0, saturation=0, hue=0), PHOTO)


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("amount", [0.4, 1.5])
def test_a_colour_jitter_is_torchvision_s_with_the_same_draws(image: Pixels, amount: float) -> None:
    """Torchvision's steps, of PIL images, with our hue."""
    steps = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation]
    steps.append(lambda image, shift: pil(on_pixels(hue)(pixels(image), shift)))
    for row in np.random.default_rng(3).random((20, COLOUR_JITTER_DRAWS)):
        low = max(0, 1 - amount)
        amounts = [*(low + row[:3] * (1 + amount - low)).tolist(), float(-0.1 + row[3] * 0.2)]
        expected = pil(image)
        for step in JITTER_ORDERS[int(row[4] * 24)]:
            expected = steps[step](expected, amounts[step])
        ours = colour_jitter(image, row, brightness=amount, contrast=amount, saturation=amount, hue=0.1)
        assert np.array_equal(ours, pixels(expected))


def test_every_order_of_a_colour_jitter_is_as_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 steps have 24 orders; 240 even numbers give each 10 times."""
    seen: list[int] = []

    def note(step: int, _levels: Levels, _amount: float) -> None:
        seen.append(step)

    monkeypatch.setattr(policies, "JITTER_STEPS", [partial(note, step) for step in range(4)])
    orders: Counter[tuple[int, ...]] = Counter()
    for number in np.linspace(0, 1, 240, endpoint=False) + 0.001:
        seen.clear()
        row = np.array([0.5, 0.5, 0.5, 0.5, number])
        colour_jitter(TWO_GREYS, row, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1)
        orders[tuple(seen)] += 1
    assert len(orders) == 24
    assert set(orders.values()) == {10}
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
