"""The kernels that a training step launches on a GPU, counted on fake tensors."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from fake_gpu import GPU, fake_gpu, first_of
from launches import multi_tensor, ours, plain
from trainings import RECIPE

from imgpipe.model.devices import World


@pytest.mark.parametrize(("processes", "parts", "most"), [(1, 1, 1.15), (1, 4, 1.3), (2, 1, 1.15)])
def test_a_step_launches_hardly_more_kernels_than_a_plain_loop(processes: int, parts: int, most: float) -> None:
    recipe = replace(RECIPE, precision="bf16", micro_batches=processes * parts)
    with fake_gpu(), first_of(processes) if processes > 1 else nullcontext(World(0, 1, GPU)) as world:
        here, there = ours("resnet18", 32, recipe, world), plain("resnet18", 32, recipe, world)
    assert here.by_place.total() <= most * there.by_place.total()
    assert here.by_operator["convolution"] == there.by_operator["convolution"] == 20 * parts, "of the same network"


def test_lists_of_tensors_take_as_many_kernels_as_their_tensors_and_chunks_need() -> None:
    """For CUDA 13: 770 tensors of one list, 448 of two, or 2,240 chunks of 65,536 numbers."""
    few = [torch.empty(8, device="meta")] * 770
    assert multi_tensor([few]) == 1
    assert multi_tensor([[*few, few[0]]]) == 2
    assert multi_tensor([few[:448], few[:448]]) == 1
    assert multi_tensor([few, few]) == 2
    assert multi_tensor([[torch.empty(2240 * 65536, device="meta")]]) == 1
    assert multi_tensor([[torch.empty(2240 * 65536 + 1, device="meta")]]) == 2
    across = torch.empty(3, 2, device="meta").t()
    assert multi_tensor([[across] * 5, [torch.empty(2, 3, device="meta")] * 5]) == 5, "one each, where strides differ"
