"""Epochs cut into batches and micro-batches, and what is in each."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from trainings import ALONE, RECIPE, run, splits

from imgpipe.train.micro_batches import MicroBatch, Plan, cut, images_in, micro_batches_of

PARTS_OF_8 = replace(RECIPE, batch_size=8, micro_batches=4, last_batch="keep")


def images_of(batches: Plan) -> list[list[list[int]]]:
    return [[list(range(place.start, place.stop)) for place, share in parts if share] for parts in batches]


def test_a_short_last_batch_is_left_out_or_fills_as_many_parts_as_it_can() -> None:
    assert images_of(cut(11, replace(PARTS_OF_8, last_batch="drop"))) == [[[0, 1], [2, 3], [4, 5], [6, 7]]]
    batches = cut(11, PARTS_OF_8)
    assert images_of(batches)[1] == [[8, 9], [10]]
    assert batches[1] == [(slice(8, 10), 2 / 3), (slice(10, 11), 1 / 3), (slice(8, 10), 0.0), (slice(8, 10), 0.0)]


@pytest.mark.parametrize("images", [1, 7, 8, 9, 16, 31])
@pytest.mark.parametrize("micro_batches", [1, 2, 8])
def test_every_image_is_kept_once_and_the_shares_of_a_batch_add_up(images: int, micro_batches: int) -> None:
    batches = cut(images, replace(PARTS_OF_8, micro_batches=micro_batches))
    kept = [image for parts in images_of(batches) for part in parts for image in part]
    assert kept == list(range(images))
    assert all(len(parts) == micro_batches for parts in batches)
    assert all(sum(share for _, share in parts) == pytest.approx(1) for parts in batches)
    assert images_in(batches) == images


def of_an_epoch(processes: int = 1, first_step: int = 0, **changes: Any) -> list[list[MicroBatch]]:
    """The parts of each step, one process's after another's."""
    recipe = replace(PARTS_OF_8, mixup_alpha=0.4, **changes)
    data = splits(recipe)
    plan = cut(len(data.train), recipe)
    steps: list[list[MicroBatch]] = [[] for _ in plan]
    for rank in range(processes):
        one = run(world=replace(ALONE, rank=rank, size=processes))
        for step, parts in micro_batches_of(data, plan, 1, recipe, one, size=8, first_step=first_step):
            steps[step] += parts
    return steps[first_step:]


def equal(some: list[list[MicroBatch]], others: list[list[MicroBatch]]) -> bool:
    pairs = [pair for parts in zip(some, others, strict=True) for pair in zip(*parts, strict=True)]
    return all(
        torch.equal(a.images, b.images)
        and torch.equal(a.labels, b.labels)
        and (a.weight, a.mix, a.dropout_seed) == (b.weight, b.mix, b.dropout_seed)
        for a, b in pairs
    )


@pytest.mark.parametrize("processes", [2, 4])
def test_between_them_processes_get_the_parts_of_one_with_all_that_is_random_about_them(processes: int) -> None:
    whole = of_an_epoch()
    assert [len(parts) for parts in whole] == [4, 4, 4]
    assert equal(of_an_epoch(processes), whole)


def test_resumed_an_epoch_goes_on_with_the_parts_that_it_would_have_had() -> None:
    assert equal(of_an_epoch(first_step=2), of_an_epoch()[2:])


def test_no_two_parts_have_the_same_random_numbers() -> None:
    parts = [part for step in of_an_epoch() for part in step]
    assert len({part.dropout_seed for part in parts}) == len({part.mix for part in parts}) == len(parts) == 12
    assert not equal(of_an_epoch(seed=1), of_an_epoch())
