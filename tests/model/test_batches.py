"""Batches: the same bits whatever makes them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from closure import ROOT
from trainings import random_split

from imgpipe.data.packed import Pixels, Split
from imgpipe.model.predict import batches
from imgpipe.model.randomness import generator, random_rows
from imgpipe.train.augment import DRAWS, Augment, augmentation, padded, resized
from imgpipe.train.policies import rand_augment
from imgpipe.train.sampling import ORDERS, balanced, shuffled

CPU = torch.device("cpu")
ALL = Augment(
    crop=partial(resized, scale_low=0.3, scale_high=1.0, ratio_low=0.75, ratio_high=1.33),
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotation=20,
    policy=partial(rand_augment, operations=2, magnitude=9),
    erasing=0.5,
)
PLACES = [slice(start, start + 4) for start in range(0, 20, 4)]


@pytest.mark.parametrize("order", ORDERS)
def test_an_epoch_s_order_is_decided_by_seed_and_epoch(order: str) -> None:
    labels = np.arange(100) % 7
    first = ORDERS[order](labels, seed=0, epoch=0)
    assert len(first) == 100
    assert np.array_equal(first, ORDERS[order](labels, seed=0, epoch=0))
    assert not np.array_equal(first, ORDERS[order](labels, seed=0, epoch=1))
    assert not np.array_equal(first, ORDERS[order](labels, seed=1, epoch=0))


def test_a_shuffled_epoch_has_every_image_once() -> None:
    assert sorted(shuffled(np.zeros(100, dtype=np.int64), seed=0, epoch=0)) == list(range(100))


def test_a_balanced_epoch_has_every_class_as_often_and_in_it_every_image_as_often() -> None:
    """90, 8 and 2 images: 33 or 34 of each class; an image of the second 4 or 5 times."""
    labels = np.repeat([0, 1, 2], [90, 8, 2])
    order = balanced(labels, seed=0, epoch=0)
    assert sorted(np.bincount(labels[order])) == [33, 33, 34]
    times = np.bincount(order, minlength=100)
    assert times[:90].max() == 1
    assert set(times[90:98]) == {4, 5}
    assert set(times[98:]) <= {16, 17}
    assert not np.array_equal(np.sort(labels[order]), labels[order])


def test_a_row_of_random_numbers_is_that_of_seed_epoch_and_place() -> None:
    rows = random_rows(0, 10, 8, seed=0, epoch=3)
    assert rows.shape == (10, 8)
    assert np.array_equal(random_rows(4, 3, 8, seed=0, epoch=3), rows[4:7])
    assert not np.array_equal(rows, random_rows(0, 10, 8, seed=0, epoch=4))
    assert not np.array_equal(rows, random_rows(0, 10, 8, seed=1, epoch=3))
    assert len(np.unique(rows)) == 80
    assert np.array_equal(rows, generator("augmentation", 0, 3).random((10, 8)))


def epoch(
    split: Split, threads: int, places: list[slice] = PLACES, device: torch.device = CPU
) -> Iterator[tuple[torch.Tensor, torch.Tensor, slice]]:
    order = shuffled(split.labels, seed=0, epoch=0)

    def fill(place: slice, squares: Pixels) -> None:
        augmentation(ALL, [128])(split, order[place], random_rows(place.start, 4, DRAWS, seed=0, epoch=0), squares)

    return batches(split, order, places, fill, size=6, threads=threads, device=device)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_batches_are_the_same_bits_for_any_number_of_threads_and_come_in_order(threads: int) -> None:
    split = replace(random_split(20), labels=np.arange(20))
    made = list(epoch(split, threads))
    assert [place for _, _, place in made] == PLACES
    order = shuffled(split.labels, seed=0, epoch=0)
    assert torch.cat([labels for _, labels, _ in made]).tolist() == order.tolist()
    for (images, _, _), (same, _, _) in zip(made, epoch(split, 1), strict=True):
        assert images.shape == (4, 6, 6, 1)
        assert torch.equal(images, same)


def test_an_epoch_taken_up_in_its_middle_and_shared_out_gives_the_same_batches() -> None:
    split = random_split(20)
    whole = list(epoch(split, 1))
    for places in (PLACES[2:], *(PLACES[rank::count] for count in (2, 4) for rank in range(count))):
        for images, labels, place in epoch(split, 2, places):
            assert torch.equal(images, whole[PLACES.index(place)][0])
            assert torch.equal(labels, whole[PLACES.index(place)][1])


def test_processes_make_between_them_the_same_batches() -> None:
    """Real processes, each of which makes its share; the shares one after the other are the batches of one process."""
    program = """
import hashlib, sys
sys.path[:0] = ["src", "tests"]
from model.test_batches import PLACES, epoch
from trainings import random_split
rank = int(sys.argv[1])
for images, labels, place in epoch(random_split(20), 2, PLACES[rank::2]):
    print(place.start, hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest())
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(rank)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    lines = [line for process in started for line in process.communicate()[0].splitlines()]
    from hashlib import sha256

    expected = [
        f"{place.start} {sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()}"
        for images, labels, place in epoch(random_split(20), 1)
    ]
    assert sorted(lines) == sorted(expected)


class StreamWithoutGpu:
    """Notes, in place of a CUDA stream, what is asked of it."""

    notes: ClassVar[list[str]] = []

    def __init__(self, _device: torch.device) -> None:
        self.copied = 0

    def record_event(self) -> int:
        self.copied += 1
        self.notes.append(f"copy {self.copied}")
        return self.copied

    def wait_event(self, copied: int) -> None:
        self.notes.append(f"wait for {copied}")


def test_batches_for_a_gpu_are_copied_from_pinned_memory_one_ahead_of_their_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With stand-ins for what needs a GPU: the memory, its streams and the copies."""
    split, empty, notes = random_split(12), torch.empty, StreamWithoutGpu.notes
    pinned: list[int] = []
    used_on: list[object] = []

    def empty_pinned(shape: tuple[int, ...], *, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        made = empty(shape, dtype=dtype)
        pinned.extend([made.data_ptr()] * pin_memory)
        return made

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.data_ptr())
        return tensor

    def to(tensor: torch.Tensor, device: torch.device, *, non_blocking: bool) -> torch.Tensor:
        assert (device.type, non_blocking) == ("cuda", True)
        assert tensor.data_ptr() in pinned
        return tensor

    expected = list(epoch(split, 1, PLACES[:3]))
    monkeypatch.setattr(torch, "empty", empty_pinned)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _tensor, stream: used_on.append(stream))
    monkeypatch.setattr(torch.cuda, "Stream", StreamWithoutGpu)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    computing = StreamWithoutGpu(CPU)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: computing)
    made = []
    for number, batch in enumerate(epoch(split, 2, PLACES[:3], torch.device("cuda")), 1):
        notes.append(f"use {number}")
        made.append(batch)
    monkeypatch.undo()
    assert notes == ["copy 1", "copy 2", "wait for 1", "use 1", "copy 3", "wait for 2", "use 2", "wait for 3", "use 3"]
    assert used_on == [computing] * 6  # images and labels of each
    for (images, labels, place), (same, names, here) in zip(made, expected, strict=True):
        assert torch.equal(images, same)
        assert torch.equal(labels, names)
        assert place == here


def test_an_error_in_a_loader_thread_reaches_the_loop() -> None:
    def broken(place: slice, _squares: Pixels) -> None:
        raise RuntimeError(f"from {place.start}")

    with pytest.raises(RuntimeError, match="from 4"):
        list(batches(random_split(9), np.arange(9), [slice(4, 8)], broken, size=6, threads=2, device=CPU))


def test_images_of_one_size_are_cut_all_at_once_to_the_same_bits() -> None:
    split = random_split(30)
    rows = random_rows(0, 30, DRAWS, seed=0, epoch=0)
    for size in (5, 8):
        together, apart = np.empty((2, 30, size, size, 1), np.uint8)
        padded(split, np.arange(30), rows, together, padding=2)
        one_by_one = replace(split, widths=split.widths.copy())
        one_by_one.__dict__["common_shape"] = None
        padded(one_by_one, np.arange(30), rows, apart, padding=2)
        assert np.array_equal(together, apart)
