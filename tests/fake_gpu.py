"""A GPU that is not there: tensors on ``cuda:0`` that have a shape, strides, dtype and device, and no content.

FakeTensorMode computes what of a tensor can be known without its numbers, and raises where code asks for a number.
What reaches it is what CUDA's dispatcher would be given: foreach and fused operators, autocast's casts.
"""

import ctypes
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from samples import described, form
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore
from trainings import CLASSES

from imgpipe.model.classifier import Classifier
from imgpipe.model.description import Description
from imgpipe.model.devices import World
from imgpipe.model.networks import unchecked_network
from imgpipe.train.params import Train

GPU = torch.device("cuda", 0)


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Make all tensors of the block fake ones, and let them be on a GPU where torch sees none.

    torch asks the driver for what a machine without GPUs can't tell: whether a context is there (in the backward pass,
    where the answer is no), which code computes a convolution (cuDNN), the present device (0) and whether there is
    bfloat16 (there is). Fake tensors are no Parameters, for which alone optimizers take foreach operators by default.
    """
    stand_ins: list[AbstractContextManager[Any]] = [
        patch("torch._C._select_conv_backend", lambda *_, **__: torch._C._ConvBackend.Cudnn),  # type: ignore[attr-defined]
        patch("torch.cuda.current_device", lambda: GPU.index),
        patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        patch("torch.cuda.is_bf16_supported", lambda *_, **__: True),
        patch.object(FakeTensor, "__deepcopy__", _copied, create=True),
        patch("torch.cuda.Stream", Stream),
        patch("torch.cuda.current_stream", Stream),
        patch("torch.cuda.stream", nullcontext),
        patch("torch.optim.optimizer._foreach_supported_types", [torch.nn.Parameter, torch.Tensor, FakeTensor]),
        patch("torch.utils._foreach_utils._foreach_supported_types", [torch.Tensor, FakeTensor]),
        torch.autograd.set_multithreading_enabled(False),  # the backward pass in this thread, where the modes are
    ]
    with ExitStack() as stack:
        for stand_in in stand_ins:
            stack.enter_context(stand_in)
        if not torch.cuda.is_available():
            stack.enter_context(_without_context())
        library = stack.enter_context(torch.library._scoped_library("aten", "IMPL"))
        for name in ("_fused_sgd_", "_fused_sgd_.tensor_lr"):  # which torch gives for real tensors alone
            library.impl(name, lambda *_, **__: None, "Meta")
        stack.enter_context(FakeTensorMode())
        yield


def _copied(tensor: FakeTensor, memo: dict[int, Any]) -> Tensor:
    copy: Tensor = tensor.detach().clone()
    return nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy


class Stream:
    """A stream of a GPU, on which nothing runs."""

    def __init__(self, device: torch.device = GPU) -> None:
        assert device == GPU

    def wait_stream(self, stream: "Stream") -> None: ...


@contextmanager
def _without_context() -> Iterator[None]:
    """Let torch's CUDAHooks::hasPrimaryContext answer no within the block, where it would raise for want of a GPU.

    It is virtual: the object gets a table of its functions with another one in that place. The place is that in the
    header which torch brings; the destructor has two.
    """
    torch_folder = Path(torch.__file__).parent
    header = (torch_folder / "include/ATen/detail/AcceleratorHooksInterface.h").read_text()
    virtual = re.findall(r"^  virtual [^;{]*?(~?\w+)\(", header, re.MULTILINE)
    assert virtual[0] == "~AcceleratorHooksInterface"
    place = 1 + virtual.index("hasPrimaryContext")

    library = ctypes.CDLL(str(torch_folder / "lib/libtorch_cpu.so"))
    get_hooks = library["_ZN2at6detail12getCUDAHooksEv"]
    get_hooks.restype = ctypes.POINTER(ctypes.c_void_p)
    hooks = get_hooks()
    before = hooks[0]
    at_type, functions = 2, 100  # what stands before the functions, and more than there are of them
    assert before is not None
    size = (at_type + functions) * ctypes.sizeof(ctypes.c_void_p)
    table = (ctypes.c_void_p * (at_type + functions)).from_buffer_copy(
        ctypes.string_at(before - at_type * ctypes.sizeof(ctypes.c_void_p), size)
    )
    answer = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_int8)(lambda *_: False)
    table[at_type + place] = ctypes.cast(answer, ctypes.c_void_p).value
    hooks[0] = ctypes.addressof(table) + at_type * ctypes.sizeof(ctypes.c_void_p)
    try:
        yield
    finally:
        hooks[0] = before


@contextmanager
def first_of(processes: int) -> Iterator[World]:
    """Make this the first of so many processes, whose messages go nowhere, within the block; to be within ``fake_gpu``.

    DistributedDataParallel reads numbers where it compares the processes' parameters and where it forms its buckets
    anew after the first step: it does neither, and has buckets from the start. It asks the driver for the time in its
    first ten steps, which are taken off here, and its futures look for the GPU that fake tensors are not on.
    """
    assign = dist._compute_bucket_assignment_by_size  # type: ignore[attr-defined]

    def assign_at_once(parameters: list[Tensor], limits: list[int], sparse: list[bool]) -> Any:
        return assign(parameters, [2**20, 25 * 2**20], sparse)

    construct, future = DistributedDataParallel.__init__, torch.futures.Future.__init__

    def construct_late(self: DistributedDataParallel, module: nn.Module, **options: Any) -> None:
        construct(self, module, init_sync=False, **options)
        for _ in range(10):
            with suppress(torch.AcceleratorError):
                self.reducer.prepare_for_forward()

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
    try:
        with (
            patch.object(DistributedDataParallel, "__init__", construct_late),
            patch("torch.distributed._compute_bucket_assignment_by_size", assign_at_once),
            patch("torch.distributed.Reducer._rebuild_buckets", lambda _: False),
            patch.object(torch.futures.Future, "__init__", lambda self, devices=None: future(self)),
        ):
            yield World(0, processes, GPU)
    finally:
        dist.destroy_process_group()


def put_on_gpu(module: nn.Module) -> None:
    """Replace the parameters and buffers of a module that was built outside of fake tensors by fake ones, in place.

    ``Module.to`` can't put a fake parameter onto another device.
    """
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part.register_parameter(name, nn.Parameter(_like(parameter), requires_grad=parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, _like(buffer))


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=GPU)


def classifier_on_gpu(description: Description, *, built_on: str = "meta") -> Classifier:
    """An untrained classifier on the GPU, ready to be trained.

    built_on: cpu for networks whose code reads numbers when they are built.
    """
    with unset_fake_temporarily(), torch.device(built_on):
        network = unchecked_network(
            description.model,
            channels=description.form.channels,
            classes=len(description.classes),
            size=description.size,
            dropout=description.dropout,
        )
        levels = [0.5] * description.form.channels
        classifier = Classifier(network, levels, levels, description)
    put_on_gpu(classifier)
    return classifier.train()


def untrained(model: str, size: int, recipe: Train, **changes: Any) -> Classifier:
    """An untrained classifier of colour images on the GPU."""
    description = described(
        model=model,
        classes=CLASSES,
        form=form(channels=3),
        size=size,
        device=GPU.type,
        precision=recipe.precision,
        kernels="native",
        channels_last=recipe.channels_last,
        **changes,
    )
    return classifier_on_gpu(description, built_on="cpu" if model.startswith("regnet") else "meta")
