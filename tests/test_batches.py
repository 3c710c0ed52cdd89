from dataclasses import replace

import numpy as np
import pytest
from test_training import random_split

from imgpipe.batches import batches, shuffled
from imgpipe.packed import Pixels
from imgpipe.transforms import centre_crop, crop, none, random_rows, window

PICTURE = np.arange(1, 17, dtype=np.uint8).reshape(4, 4, 1)


def test_an_epoch_s_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    order = shuffled(100, seed=0, epoch=0)
    assert sorted(order) == list(range(100))
    assert np.array_equal(order, shuffled(100, seed=0, epoch=0))
    assert not np.array_equal(order, shuffled(100, seed=0, epoch=1))
    assert not np.array_equal(order, shuffled(100, seed=1, epoch=0))


def test_a_picture_s_random_numbers_are_those_of_seed_epoch_and_its_place() -> None:
    rows = random_rows(5, seed=0, epoch=3)
    assert np.array_equal(rows, random_rows(5, seed=0, epoch=3))
    assert not np.array_equal(rows, random_rows(5, seed=0, epoch=4))
    assert ((rows >= 0) & (rows < 1)).all()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_batches_are_the_chosen_pictures_in_order_for_any_number_of_threads(threads: int) -> None:
    split = replace(random_split(20), labels=np.arange(20))
    chosen = [np.array([3, 1]), np.array([0, 19]), np.array([7, 7])] * 5
    made = list(batches(split, iter(chosen), lambda i: split.picture(i), threads=threads))
    assert len(made) == 15
    for numbers, (pictures, labels, same) in zip(chosen, made, strict=True):
        assert np.array_equal(same, numbers)
        assert labels.tolist() == numbers.tolist()
        for picture, number in zip(pictures, numbers, strict=True):
            assert np.array_equal(picture, split.pixels[number * 64 : number * 64 + 64].reshape(8, 8, 1))


def test_an_error_in_a_loader_thread_reaches_the_loop() -> None:
    def broken(i: int) -> Pixels:
        raise RuntimeError(f"picture {i}")

    with pytest.raises(RuntimeError, match="picture 3"):
        list(batches(random_split(5), [np.array([3])], broken, threads=2))


def test_a_window_is_black_outside_the_picture() -> None:
    assert window(PICTURE, -1, 2, 3)[..., 0].tolist() == [[0, 0, 0], [3, 4, 0], [7, 8, 0]]
    assert window(PICTURE, 3, 3, 2)[..., 0].tolist() == [[16, 0], [0, 0]]


def test_the_centre_crop_is_the_middle() -> None:
    assert centre_crop(PICTURE, 2)[..., 0].tolist() == [[6, 7], [10, 11]]
    assert none(PICTURE, np.zeros(4), 2)[..., 0].tolist() == [[6, 7], [10, 11]]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.0, 0.0, 0.9, 0.0], [[0, 0], [0, 1]]),
        ([0.999, 0.999, 0.9, 0.0], [[16, 0], [0, 0]]),
        ([0.5, 0.5, 0.9, 0.0], [[6, 7], [10, 11]]),
        ([0.5, 0.5, 0.4, 0.0], [[7, 6], [11, 10]]),
    ],
    ids=["top left", "bottom right", "middle", "mirrored"],
)
def test_a_crop_is_where_its_random_numbers_say(row: list[float], expected: list[list[int]]) -> None:
    """Padding 1 around 4 x 4 gives 6 x 6, so a square of 2 has 5 places each way, from -1 to 3."""
    square = crop(PICTURE, np.array(row), 2, padding=1, horizontal_flip=0.5)
    assert square[..., 0].tolist() == expected


def test_every_place_of_a_crop_is_as_likely() -> None:
    """The whole picture with 2 pixels of padding has 5 places each way; the pixel at (2, 2) tells them apart."""
    rows = np.stack([np.linspace(0, 1, 1000, endpoint=False)] * 4, axis=1)
    seen = [int(crop(PICTURE, row, 4, padding=2, horizontal_flip=0.0)[2, 2, 0]) for row in rows]
    assert {place: seen.count(place) for place in seen} == {1: 200, 6: 200, 11: 200, 16: 200, 0: 200}
