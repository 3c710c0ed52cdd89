"""Puts a fault into each process that starts with this folder on its path: that which FAULT in the environment names.

Python imports this module before all others.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

LAST = os.environ.get("RANK") == "1"


def no_torch(module: Any) -> None:
    raise ImportError("libcudart.so.99: cannot open shared object file")


def crash(facts: Any) -> None:
    facts.found = lambda *arguments: os.kill(os.getpid(), signal.SIGSEGV)


def hang(facts: Any) -> None:
    facts.found = lambda *arguments: time.sleep(600)


def odd_networks(networks: Any) -> None:
    """One uses an operator that has no deterministic form; another computes otherwise each time."""
    runs = 0

    class Refusing(networks.Residual):  # type: ignore[misc]  # of a module that mypy does not see here
        def forward(self, features: Any) -> Any:
            numbers = features.new_zeros(1).long()
            return self.layers(features).flatten().put_(numbers, features.new_zeros(1)).view(len(features), -1)

    class Counting(networks.Residual):  # type: ignore[misc]
        def forward(self, features: Any) -> Any:
            nonlocal runs
            runs += 1
            return self.layers(features) * (1 + runs / 1000)

    simple, narrow = networks.MODELS["simple_cnn"], networks.MODELS["resnet9_narrow"]
    networks.MODELS["simple_cnn"] = lambda *arguments: Refusing(simple(*arguments))
    networks.MODELS["resnet9_narrow"] = lambda *arguments: Counting(narrow(*arguments))


def reading_loop(syncs: Any) -> None:
    """Where there is no GPU: torch's watch itself is a stand-in, which takes it ill that a loss is read."""
    read = syncs.torch.Tensor.tolist

    def refusing(tensor: Any) -> None:
        raise RuntimeError("called a synchronizing CUDA operation")

    def watch(mode: str) -> None:
        syncs.torch.Tensor.tolist = refusing if mode == "error" else read

    syncs.torch.cuda.set_sync_debug_mode = watch


def other_card(loop: Any) -> None:
    """The second process computes a loss that is a millionth larger."""
    right = loop.batch_loss
    loop.batch_loss = lambda *arguments: right(*arguments) * (1 + 1e-6 * LAST)


def other_order(reduction: Any) -> None:
    """A process sums its micro-batches one after the other."""

    def add(self: Any, term: Any) -> None:
        if self.sums:
            reduction.torch._foreach_add_(self.sums[0][1], term)
        else:
            self.sums.append((1, term))

    reduction.PartialSums.add = add


def wrong_sum(exchange: Any) -> None:
    """The second process contributes a millionth more."""
    right = exchange.Exchange.sum_in_place
    exchange.Exchange.sum_in_place = lambda self, flat: right(self, flat.mul_(1 + 1e-6 * LAST))


def slow_step(loop: Any) -> None:
    right = loop.train_step

    def slow(*arguments: Any) -> Any:
        time.sleep(0.2)
        return right(*arguments)

    loop.train_step = slow


def no_explanation(loop: Any) -> None:
    """An error that a user can put right ends in a traceback; and no checkpoint is written."""
    from contextlib import nullcontext

    from imgpipe.train import checkpoints

    loop.explained = nullcontext
    checkpoints.write_checkpoint = lambda *arguments: None


FAULTS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "no torch": ("torch", no_torch),
    "crash": ("imgpipe.commands.gpu_checking.facts", crash),
    "hang": ("imgpipe.commands.gpu_checking.facts", hang),
    "odd networks": ("imgpipe.model.networks", odd_networks),
    "reading loop": ("imgpipe.commands.gpu_checking.syncs", reading_loop),
    "other card": ("imgpipe.train.loop", other_card),
    "other order": ("imgpipe.train.reduction", other_order),
    "wrong sum": ("imgpipe.train.exchange", wrong_sum),
    "slow step": ("imgpipe.train.loop", slow_step),
    "no explanation": ("imgpipe.train.loop", no_explanation),
}
"""The module that gets a fault when it is imported, and what changes it."""


class Finder(importlib.abc.MetaPathFinder):
    """Has the module changed once it is loaded."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        wanted, put_in = FAULTS[os.environ["FAULT"]]
        if name != wanted:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec and spec.loader
        load = spec.loader.exec_module

        def changed(module: Any) -> None:
            load(module)
            put_in(module)

        spec.loader.exec_module = changed  # type: ignore[method-assign]
        return spec


if "FAULT" in os.environ:
    sys.meta_path.insert(0, Finder())
