"""Sums in a fixed tree."""

import torch
from torch import Tensor, nn

from imgpipe.model.devices import World
from imgpipe.train.exchange import tree_sum
from imgpipe.train.reduction import FixedTree, PartialSums

ALONE = World(0, 1, torch.device("cpu"))

# In float32 1e8 + 1 is 1e8, so (1e8 + 1) + (-1e8 + 1) is 0 where ((1e8 + 1) - 1e8) + 1 would be 1.
TERMS = [1e8, 1.0, -1e8, 1.0]


def in_turn(terms: list[Tensor]) -> Tensor:
    sums = PartialSums()
    for term in terms[:-1]:
        sums.add([term.clone()])
    last = terms[-1].clone()
    sums.complete([last], [0])
    return last


def test_terms_are_added_in_pairs_and_pairs_of_pairs() -> None:
    terms = [torch.tensor(term) for term in TERMS]
    assert in_turn(terms).item() == 0.0
    assert tree_sum(torch.stack(terms)).item() == 0.0


def test_however_the_terms_are_shared_out_the_bits_are_the_same() -> None:
    torch.manual_seed(0)
    terms = list(torch.randn(8, 1000) * 10.0 ** torch.randint(-4, 5, (8, 1000)))
    expected = ((terms[0] + terms[1]) + (terms[2] + terms[3])) + ((terms[4] + terms[5]) + (terms[6] + terms[7]))
    assert not torch.equal(expected, torch.stack(terms).sum(0))
    for processes in (1, 2, 4, 8):
        share = 8 // processes
        own = [in_turn(terms[rank * share : (rank + 1) * share]) for rank in range(processes)]
        assert torch.equal(tree_sum(torch.stack(own)), expected)


def test_a_running_statistic_is_the_mean_over_the_micro_batches_of_what_each_alone_makes_of_it() -> None:
    """Momentum 0.1, from a mean of 1 micro-batches of 2 and 6: 0.9 + 0.1 * (2 + 6) / 2 = 1.3; variances 0 and 4."""
    norm = nn.BatchNorm1d(1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.running_mean.fill_(1.0)
    tree = FixedTree(norm, ALONE)
    tree.start_batch()
    for i, values in enumerate(([2.0, 2.0], [6 - 2**0.5, 6 + 2**0.5])):
        with tree.micro_batch(0.5, last=i == 1) as module:
            module(torch.tensor(values)[:, None]).sum().backward()
    torch.testing.assert_close(norm.running_mean, torch.tensor([1.3]))
    torch.testing.assert_close(norm.running_var, torch.tensor([0.9 + 0.1 * (0 + 4) / 2]))
    assert norm.num_batches_tracked.item() == 1


def test_a_batchnorm_in_evaluation_mode_keeps_its_statistics() -> None:
    norm = nn.BatchNorm1d(1).eval()
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    tree = FixedTree(norm, ALONE)
    tree.start_batch()
    with tree.micro_batch(1.0, last=True) as module:
        module(torch.tensor([[2.0], [4.0]])).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())
