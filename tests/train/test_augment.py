"""What happens to a square after it is cut."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from samples import photo
from torchvision.transforms.v2 import functional as tv
from train.test_crops import as_tensor, difference
from trainings import AUGMENT, random_split

from imgpipe.data.packed import Pixels
from imgpipe.model.crops import SMALL
from imgpipe.model.randomness import Floats
from imgpipe.train.augment import (
    DRAWS,
    ERASING,
    HORIZONTAL,
    POLICIES,
    ROTATION,
    VERTICAL,
    WHETHER_TO_ERASE,
    augmentation,
    centre,
    erased,
    flip,
    rotated,
)

PHOTO = np.asarray(photo())


UNCHANGED = replace(AUGMENT, crop=partial(centre, fraction=1.0), horizontal_flip=0.0)


def augmented(rows: Floats, **changes: float) -> Pixels:
    """The first images of a split, each with its row, in all but what is changed as they are."""
    augment = augmentation(replace(UNCHANGED, **changes), [7])  # type: ignore[arg-type]
    squares = np.empty((len(rows), 8, 8, 1), np.uint8)
    augment(random_split(len(rows)), np.arange(len(rows)), rows, squares)
    return squares


def rows_with(column: int, *values: float) -> Floats:
    rows = np.full((len(values), DRAWS), 0.5)
    rows[:, column] = values
    return rows


PLAIN = augmented(rows_with(0, 0, 0))


def test_flips_are_where_their_random_numbers_say() -> None:
    across = augmented(rows_with(HORIZONTAL, 0.29, 0.3), horizontal_flip=0.3)
    assert np.array_equal(across[0], PLAIN[0, :, ::-1])
    assert np.array_equal(across[1], PLAIN[1])
    down = augmented(rows_with(VERTICAL, 0.29, 0.3), vertical_flip=0.3)
    assert np.array_equal(down[0], PLAIN[0, ::-1])
    assert np.array_equal(down[1], PLAIN[1])
    both = augmented(rows_with(VERTICAL, 0.0, 0.0), vertical_flip=1.0, horizontal_flip=1.0)
    assert np.array_equal(both, PLAIN[:, ::-1, ::-1])


@pytest.mark.parametrize("size", [SMALL, SMALL + 1], ids=["in one call", "one by one"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("numbers", [[], [3], [0, 2, 3]])
def test_flips_change_the_squares_of_their_numbers_alone(size: int, channels: int, numbers: list[int]) -> None:
    squares = np.random.default_rng(0).integers(0, 256, (4, size, size, channels), dtype=np.uint8)
    across, down = squares.copy(), squares.copy()
    across[numbers], down[numbers] = squares[numbers][:, :, ::-1], squares[numbers][:, ::-1]
    for axis, expected in ((1, across), (0, down)):
        flipped = squares.copy()
        flip(flipped, np.array(numbers, dtype=np.int64), axis)
        assert np.array_equal(flipped, expected)


def test_a_rotation_s_angle_is_within_the_limits_and_its_direction_counter_clockwise() -> None:
    quarter = augmented(rows_with(ROTATION, 1.0, 0.0), rotation=90)
    assert np.array_equal(quarter[0], np.rot90(PLAIN[0]))
    assert np.array_equal(quarter[1], np.rot90(PLAIN[1], -1))


@pytest.mark.parametrize("degrees", [-30.0, 5.0, 45.0, 170.0])
def test_a_rotation_is_torchvision_s(degrees: float) -> None:
    theirs = tv.rotate(as_tensor(PHOTO), degrees, interpolation=tv.InterpolationMode.BILINEAR)
    inner = slice(40, 80), slice(60, 100)  # at the edge, torchvision blends with black otherwise
    mean, largest = difference(rotated(PHOTO, degrees)[inner], theirs[:, inner[0], inner[1]])
    assert mean < 0.6
    assert largest <= 12


def test_what_is_erased_is_one_box_of_a_colour_with_the_drawn_area_and_place() -> None:
    """Of 100 x 100: share 0.04, ratio 1 is a box of 20 x 20, at a quarter and three quarters of the 81 places."""
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    row = np.array([0.02 / 0.31, np.log(1 / 0.3) / np.log(11), 0.25, 0.75])
    box = erased(image, row, [1, 2, 3])
    assert np.array_equal(np.argwhere(box[..., 0]).min(0), [20, 60])
    assert np.array_equal(np.argwhere(box[..., 0]).max(0), [39, 79])
    assert box[30, 70].tolist() == [1, 2, 3]
    assert not image.any()
    theirs = tv.erase(as_tensor(image), 20, 60, 20, 20, torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None])
    assert difference(box, theirs) == (0, 0)


def test_erasing_happens_as_often_as_asked() -> None:
    some = augmented(rows_with(WHETHER_TO_ERASE, 0.19, 0.2), erasing=0.2)
    assert (some[0] == 7).sum() >= 2
    assert np.array_equal(some[1], PLAIN[1])
    assert ERASING.stop - ERASING.start == 4


def test_every_policy_takes_squares_of_either_kind_and_leaves_its_input() -> None:
    arguments: dict[str, dict[str, float]] = {
        "colour_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        "rand_augment": {"operations": 2, "magnitude": 9},
    }
    for name, policy in POLICIES.items():
        for image in (PHOTO, PHOTO[..., :1]):
            before = image.copy()
            for row in np.random.default_rng(0).random((40, DRAWS)):
                changed = policy(image, row, **arguments.get(name, {}))
                assert changed.shape == image.shape
                assert changed.dtype == np.uint8
            assert np.array_equal(image, before)
