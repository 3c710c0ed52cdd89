"""Crops: where their random numbers say, and as torchvision's."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from samples import form, noise, photo
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from imgpipe.data.packed import Pixels, Split
from imgpipe.model.crops import evaluation_square, fill_from_boxes, fitted, resized_box
from imgpipe.model.randomness import Floats
from imgpipe.train.augment import (
    AREAS,
    CROP_DRAWS,
    RATIOS,
    TRIES,
    padded_crop,
    random_boxes,
    window,
)

IMAGE = np.arange(1, 17, dtype=np.uint8).reshape(4, 4, 1)
PHOTO = np.asarray(photo())


def as_tensor(image: Pixels) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def squared(crop: Callable[..., None], size: int, image: Pixels, *numbers: Any, **arguments: float) -> Pixels:
    """The square that a crop fills, which had other pixels before."""
    square = np.full((size, size, image.shape[2]), 99, dtype=np.uint8)
    crop(image, *numbers, square, **arguments)
    return square


def difference(ours: Pixels, theirs: torch.Tensor) -> tuple[float, int]:
    """Mean and largest difference of levels."""
    levels = np.abs(ours.astype(int) - theirs.permute(1, 2, 0).numpy().astype(int))
    return float(levels.mean()), int(levels.max())


def test_a_window_is_black_outside_the_image() -> None:
    assert squared(window, 3, IMAGE, -1, 2)[..., 0].tolist() == [[0, 0, 0], [3, 4, 0], [7, 8, 0]]
    assert squared(window, 2, IMAGE, 3, 3)[..., 0].tolist() == [[16, 0], [0, 0]]


def test_by_default_evaluation_sees_the_middle() -> None:
    middle = partial(evaluation_square, fit="crop")
    assert squared(middle, 2, IMAGE, fraction=0.5)[..., 0].tolist() == [[6, 7], [10, 11]]
    assert np.array_equal(squared(middle, 120, PHOTO, fraction=1.0), PHOTO[:, 20:140])
    assert squared(middle, 1, IMAGE, fraction=0.25)[..., 0].tolist() == [[6]]  # of 2 x 2 in the middle the first


def test_padded_evaluation_sees_the_whole_image_with_black_beside_it() -> None:
    """Of 2 x 4 pixels in a square of 4 nothing is resized; 4 x 2 stands upright; of 3 rows the spare one is below."""
    wide = IMAGE[:2]
    assert squared(partial(evaluation_square, fit="pad"), 4, wide, fraction=1.0)[..., 0].tolist() == [
        [0, 0, 0, 0],
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [0, 0, 0, 0],
    ]
    tall = squared(partial(evaluation_square, fit="pad"), 4, IMAGE[:, :2], fraction=1.0)[..., 0]
    assert tall.tolist() == [[0, 1, 2, 0], [0, 5, 6, 0], [0, 9, 10, 0], [0, 13, 14, 0]]
    three = squared(partial(evaluation_square, fit="pad"), 4, IMAGE[:3], fraction=1.0)[..., 0]
    assert three.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [0, 0, 0, 0]]


def test_squashed_evaluation_sees_the_whole_image_as_pillow_resizes_it() -> None:
    theirs = np.asarray(photo().resize((60, 60), Image.Resampling.BILINEAR))
    assert np.array_equal(squared(partial(evaluation_square, fit="squash"), 60, PHOTO, fraction=1.0), theirs)


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("crop", [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ("pad", [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]]),
        ("squash", [[2, 3], [6, 7]]),  # 1.5 and 3.5 would be the means of pairs; the filter reaches to the next pixels
    ],
)
def test_training_crops_are_cut_from_the_whole_image_where_that_is_fitted(fit: str, expected: list[list[int]]) -> None:
    split = fitted(split_of([IMAGE[:2], IMAGE]), fit)
    assert split.image(0)[..., 0].tolist() == expected
    assert split.image(1).tolist() == IMAGE.tolist()  # a square as it is


def split_of(images: list[Pixels], levels: int = 1) -> Split:
    """A split of raw images, or of images with their pyramids beside them."""
    lengths = np.array([image.size for image in images])
    return Split(
        form=form(channels=images[0].shape[2], levels=levels),
        content=np.concatenate([image.ravel() for image in images]),
        offsets=np.cumsum(lengths) - lengths,
        lengths=lengths,
        heights=np.array([image.shape[0] for image in images]),
        widths=np.array([image.shape[1] for image in images]),
        labels=np.zeros(len(images), np.int64),
        checksums=np.zeros(len(images), np.int64),
        files=[str(i) for i in range(len(images))],
    )


def test_evaluation_sees_what_torchvision_s_resize_and_centre_crop_show() -> None:
    """A photo of 120 x 160 pixels; 0.875 of 120 is 105, enlarged to 112, as resizing to 128 and cropping 112 does."""
    theirs = tv.center_crop(tv.resize(as_tensor(PHOTO), [128], antialias=True), [112])
    mean, largest = difference(squared(partial(evaluation_square, fit="crop"), 112, PHOTO, fraction=0.875), theirs)
    assert mean < 1.5
    assert largest < 64


def test_what_evaluation_sees_of_a_large_image_is_antialiased() -> None:
    """As torchvision's own antialiased resizing has it, but for a level of rounding."""
    theirs = tv.resize(as_tensor(PHOTO[:, 20:140]), [80], antialias=True)
    assert difference(squared(partial(evaluation_square, fit="crop"), 80, PHOTO, fraction=1.0), theirs)[1] <= 1


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((0.0, 0.0), [[0, 0], [0, 1]]),
        ((0.999, 0.999), [[16, 0], [0, 0]]),
        ((0.5, 0.5), [[6, 7], [10, 11]]),
        ((0.0, 0.5), [[0, 0], [2, 3]]),
    ],
)
def test_a_padded_crop_is_where_its_random_numbers_say(place: tuple[float, float], expected: list[list[int]]) -> None:
    """Padding 1 around 4 x 4 gives 6 x 6, so a square of 2 has 5 places each way, from -1 to 3."""
    assert squared(padded_crop, 2, IMAGE, np.array(place), padding=1)[..., 0].tolist() == expected


def test_every_place_of_a_padded_crop_is_as_likely() -> None:
    """The whole image with 2 pixels of padding has 5 places each way; the pixel at (2, 2) tells them apart."""
    rows = np.stack([np.linspace(0, 1, 1000, endpoint=False)] * 2, axis=1)
    seen = [int(squared(padded_crop, 4, IMAGE, row, padding=2)[2, 2, 0]) for row in rows]
    assert {place: seen.count(place) for place in seen} == {1: 200, 6: 200, 11: 200, 16: 200, 0: 200}


def test_an_image_too_small_for_the_crop_is_enlarged_first() -> None:
    square = squared(padded_crop, 80, PHOTO[:40, :60], np.array([0.0, 0.0]), padding=0)
    theirs = tv.resize(as_tensor(PHOTO[:40, :60]), [80], antialias=True)[:, :, :80]
    assert difference(square, theirs)[0] < 1


@pytest.mark.parametrize(
    ("box", "size", "mean", "largest"),
    [
        ((10, 20, 60, 60), 60, 0, 0),
        ((10, 20, 50, 70), 100, 0.5, 5),
        ((0, 0, 112, 128), 112, 1.5, 40),
        ((0, 0, 120, 160), 40, 0.8, 24),
    ],
    ids=["as it is", "enlarged", "hardly smaller", "by area to a third"],
)
def test_a_box_is_resized_as_torchvision_does(
    box: tuple[int, int, int, int], size: int, mean: float, largest: int
) -> None:
    """Without antialiasing where it shrinks to more than half: that is what makes it fast. See docs/loading.md."""
    theirs = tv.resized_crop(as_tensor(PHOTO), *box, [size, size], antialias=size == 40)
    got = difference(squared(resized_box, size, PHOTO, *box), theirs)
    assert got[0] <= mean
    assert got[1] <= largest


def row(areas: list[float], ratios: list[float], top: float, left: float) -> Floats:
    numbers = np.zeros(CROP_DRAWS)
    numbers[0], numbers[1] = top, left
    numbers[AREAS], numbers[RATIOS] = (given + [0.0] * (TRIES - len(given)) for given in (areas, ratios))
    return numbers


SCALE, RATIO = (0.08, 1.0), (0.75, 4 / 3)


def boxes_of(height: int, width: int, rows: list[Floats]) -> list[list[int]]:
    """Top, left, height and width of the boxes in images of one size."""
    sides = np.repeat([[height], [width]], len(rows), axis=1)
    boxes: list[list[int]] = random_boxes(sides, np.stack(rows), SCALE, RATIO).T.tolist()
    return boxes


def test_a_random_box_by_hand() -> None:
    """Of 120 x 160 pixels: share 0.25, ratio 1 is a box of 69 x 69 (sqrt(4800) = 69.28), at half of what is left."""
    area, ratio = (0.25 - 0.08) / 0.92, math.log(1 / 0.75) / math.log((4 / 3) / 0.75)
    assert boxes_of(120, 160, [row([area], [ratio], 0.5, 0.5)]) == [[26, 46, 69, 69]]  # of 52 and 92 places


def test_a_box_that_does_not_fit_is_drawn_again_and_the_last_resort_is_the_middle() -> None:
    small = (0.25 - 0.08) / 0.92
    half = math.log(1 / 0.75) / math.log((4 / 3) / 0.75)
    second = row([0.999, small], [0.0, half], 0.5, 0.5)
    none = row([0.9999] * TRIES, [0.0] * TRIES, 0.5, 0.5)
    assert boxes_of(120, 160, [second, none]) == [[26, 46, 69, 69], [0, 0, 120, 160]]  # 160 / 120 is within the ratios
    assert boxes_of(100, 400, [none]) == [[0, 133, 100, 133]]
    assert boxes_of(401, 100, [none]) == [[134, 0, 133, 100]]


def box_by_torchvision_s_loop(
    height: int, width: int, row: Floats, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Top, left, height and width, computed as torchvision's RandomResizedCrop.get_params does, by Python's math."""
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for share, place in zip(row[AREAS].tolist(), row[RATIOS].tolist(), strict=True):
        area = (scale[0] + share * (scale[1] - scale[0])) * height * width
        drawn = math.exp(low + place * (high - low))
        w, h = round(math.sqrt(area * drawn)), round(math.sqrt(area / drawn))
        if 0 < w <= width and 0 < h <= height:
            return int(row[0] * (height - h + 1)), int(row[1] * (width - w + 1)), h, w
    nearest = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, round(height * nearest)), min(height, round(width / nearest))
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(("scale", "ratio"), [(SCALE, RATIO), ((0.6, 1.0), (0.1, 0.7)), ((1e-6, 1e-3), (0.5, 9.0))])
def test_boxes_drawn_all_at_once_are_those_of_torchvision_s_loop(
    scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    random = np.random.default_rng(0)
    rows = random.random((2000, CROP_DRAWS))
    sides = random.integers(1, 70, (2, 2000))
    expected = [
        box_by_torchvision_s_loop(height, width, row, scale, ratio)
        for (height, width), row in zip(sides.T.tolist(), rows, strict=True)
    ]
    assert [tuple(box) for box in random_boxes(sides, rows, scale, ratio).T.tolist()] == expected


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_are_resized_in_one_call_as_one_by_one(size: int, channels: int) -> None:
    """From boxes of every height and width, each of an image of its own."""
    every = np.indices((size, size)).reshape(2, -1) + 1
    random = np.random.default_rng(0)
    corners = (random.random(every.shape) * (size - every + 1)).astype(np.int64)
    boxes = np.concatenate([corners, every])
    images = random.integers(0, 256, (size * size, size, size, channels), dtype=np.uint8)
    squares = np.full_like(images, 99)
    split = split_of(list(images))
    numbers = random.permutation(len(images))
    fill_from_boxes(split, numbers, boxes, squares)
    for number, box, square in zip(numbers, boxes.T.tolist(), squares, strict=True):
        assert np.array_equal(square, squared(resized_box, size, images[number], *box))


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_a_box_comes_from_the_level_where_it_is_not_much_larger_than_the_square(fit: str) -> None:
    """For a square of 10 x 10 level 1 takes boxes of more than 250 pixels, level 2 those of more than 1,000."""
    whole = np.full((81, 101, 1), 10, np.uint8)
    lower = [np.full((41, 51, 1), 20, np.uint8), np.full((21, 26, 1), 40, np.uint8)]
    pyramid = np.concatenate([level.ravel() for level in (whole, *lower)])
    split = fitted(replace(split_of([whole], levels=3), content=pyramid, lengths=np.array([len(pyramid)])), fit)
    sizes = {(25, 10): 10, (10, 25): 10, (26, 10): 20, (20, 50): 20, (13, 77): 40, (81, 81): 40, (1, 9): 10}
    corners = [(81 - height, 81 - width) for height, width in sizes]
    boxes = np.array([(*corner, *sides) for corner, sides in zip(corners, sizes, strict=True)]).T
    squares = np.zeros((len(sizes), 10, 10, 1), np.uint8)
    fill_from_boxes(split, np.zeros(len(sizes), np.int64), boxes, squares)
    for square, level in zip(squares, sizes.values(), strict=True):
        assert square.max() == level  # beside it may be black


def test_crops_from_a_pyramid_are_nearer_to_antialiased_ones() -> None:
    """Noise, 1.9 times as wide as the square, so that level 1 is enlarged; compared with torchvision's own resize."""
    image = np.asarray(noise(0, (380, 380)))
    half = np.asarray(Image.fromarray(image).reduce(2))
    theirs = tv.resize(as_tensor(image), [200, 200], antialias=True)
    from_whole = difference(squared(resized_box, 200, image, 0, 0, 380, 380), theirs)
    from_half = difference(squared(resized_box, 200, half, 0, 0, 190, 190), theirs)
    assert from_half[0] < from_whole[0] / 2


@pytest.mark.parametrize(("fit", "sides"), [("crop", [2, 4]), ("pad", [4, 4]), ("squash", [2, 2])])
def test_boxes_are_drawn_in_the_image_as_it_is_fitted(fit: str, sides: list[int]) -> None:
    split = fitted(split_of([IMAGE, IMAGE[:2]]), fit)
    assert split.sides(np.array([1, 0])).T.tolist() == [sides, [4, 4]]


def test_random_boxes_are_spread_as_torchvision_s() -> None:
    """Area and ratio of 4,000 boxes each: means and quartiles agree."""
    ours_by = np.array(boxes_of(120, 160, list(np.random.default_rng(0).random((4000, CROP_DRAWS)))), float)[:, 2:]
    torch.manual_seed(0)
    theirs = [v2.RandomResizedCrop(32).make_params([torch.zeros(3, 120, 160)]) for _ in range(4000)]
    theirs_by = np.array([(p["height"], p["width"]) for p in theirs], dtype=float)
    for a, b in (
        (ours_by.prod(axis=1) / 19200, theirs_by.prod(axis=1) / 19200),
        (ours_by[:, 1] / ours_by[:, 0], theirs_by[:, 1] / theirs_by[:, 0]),
    ):
        assert np.quantile(a, [0.25, 0.5, 0.75]) == pytest.approx(np.quantile(b, [0.25, 0.5, 0.75]), abs=0.03)
        assert a.mean() == pytest.approx(b.mean(), abs=0.02)
