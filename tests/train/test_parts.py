"""Epochs cut into batches and parts."""

import pytest

from imgpipe.train.parts import cut


def images_of(batches: list[list[tuple[slice, float]]]) -> list[list[list[int]]]:
    return [[list(range(place.start, place.stop)) for place, share in parts if share] for parts in batches]


def test_a_short_last_batch_is_left_out_or_fills_as_many_parts_as_it_can() -> None:
    assert images_of(cut(11, batch_size=8, micro_batches=4, keep_last=False)) == [[[0, 1], [2, 3], [4, 5], [6, 7]]]
    batches = cut(11, batch_size=8, micro_batches=4, keep_last=True)
    assert images_of(batches)[1] == [[8, 9], [10]]
    assert batches[1] == [(slice(8, 10), 2 / 3), (slice(10, 11), 1 / 3), (slice(8, 10), 0.0), (slice(8, 10), 0.0)]


@pytest.mark.parametrize("images", [1, 7, 8, 9, 16, 31])
@pytest.mark.parametrize("micro_batches", [1, 2, 8])
def test_every_image_is_kept_once_and_the_shares_of_a_batch_add_up(images: int, micro_batches: int) -> None:
    batches = cut(images, batch_size=8, micro_batches=micro_batches, keep_last=True)
    kept = [image for parts in images_of(batches) for part in parts for image in part]
    assert kept == list(range(images))
    assert all(len(parts) == micro_batches for parts in batches)
    assert all(sum(share for _, share in parts) == pytest.approx(1) for parts in batches)
