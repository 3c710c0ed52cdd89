"""How many kernels one training step launches on a GPU: ours, and a plain loop that does the same work.

Both run on fake tensors, and what CUDA's dispatcher would be given is counted. A view or an empty tensor is none; an
operator over lists of tensors (foreach, fused optimizers) is as many as its tensors and their chunks need
(MultiTensorApply.cuh), or one a tensor where strides or dtypes keep it from that; a convolution, each of its gradients
and its bias is one; a copy between the CPU and the GPU is one; any other operator is one. A convolution or a BatchNorm
may launch more than one: both loops have as many of these, so the true ratio is nearer to 1 than what is printed.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from fake_gpu import GPU, put_on_gpu, untrained
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from trainings import CLASSES

from imgpipe.model.devices import World
from imgpipe.train.loop import train_step
from imgpipe.train.micro_batches import MicroBatch
from imgpipe.train.params import Train
from imgpipe.train.reduction import FixedTree
from imgpipe.train.start import new_state

CHUNK = 65536
MAX_TENSORS, MAX_BLOCKS = (770, 448, 336, 252, 210), 2240  # of MultiTensorApply.cuh for CUDA 13, by the lists' number
NOTHING = {"prim::device", "aten::is_same_size", "aten::record_stream", "aten::_unsafe_view"}
CAT_BATCH = 128


class Launches(TorchDispatchMode):
    """Counts the launches of the operators that run within it.

    by_place: of each operator, by its name and the function of this project that runs it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_place: Counter[tuple[str, str]] = Counter()

    @property
    def by_operator(self) -> Counter[str]:
        """Of each operator, wherever it runs."""
        number: Counter[str] = Counter()
        for (name, _), launched in self.by_place.items():
            number[name] += launched
        return number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if number := launches(func, args, kwargs or {}, result):
            self.by_place[func._schema.name.removeprefix("aten::"), place(sys._getframe(1))] += number
        return result


def launches(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    """Of one operator."""
    name = func._schema.name
    base = name.removeprefix("aten::")
    lists = [a for a in (*args, *kwargs.values()) if isinstance(a, list | tuple) and a and isinstance(a[0], Tensor)]
    tensors = [a for a in (*args, result) if isinstance(a, Tensor)] + [t for one in lists for t in one]
    if not any(t.device.type == "cuda" for t in tensors):
        return 0
    if func.is_view or torch.Tag.inplace_view in func.tags or name in NOTHING or "empty" in base:
        return 0
    if base.startswith("_fused_"):
        return multi_tensor(lists[: len(lists) - ("adam" in base)])
    if base.startswith(("_foreach_", "_amp_foreach_")):
        return multi_tensor([*lists, result] if isinstance(result, list | tuple) else lists)
    if base == "convolution":
        return 1 + (args[2] is not None)
    if base == "convolution_backward":
        return sum(args[-1])
    if base == "cat":
        return math.ceil(len(args[0]) / CAT_BATCH)
    if base == "_to_copy":
        return (result.device != args[0].device) + (result.dtype != args[0].dtype) or 1
    zeroes_its_result_first = base in ("max_pool2d_with_indices_backward", "nll_loss_backward")
    return 2 if zeroes_its_result_first else 1


def multi_tensor(lists: Sequence[Sequence[Tensor]]) -> int:
    """Of an operator over lists of tensors, as multi_tensor_apply fills its blocks."""
    if not all(together(group) for group in zip(*lists, strict=True)):
        return len(lists[0])
    count, tensors, blocks = 0, 0, 0
    for tensor in lists[0]:
        tensors += 1
        chunks = math.ceil(tensor.numel() / CHUNK)
        for chunk in range(chunks):
            blocks += 1
            full = tensors == MAX_TENSORS[len(lists) - 1] and chunk == chunks - 1
            if full or blocks == MAX_BLOCKS:
                count, blocks, tensors = count + 1, 0, int(chunk < chunks - 1)
    return count + (blocks > 0)


def together(group: Sequence[Tensor]) -> bool:
    """Whether tensors at one place of the lists can go through one kernel: alike in dtype, shape and strides."""

    def layout(tensor: Tensor) -> list[object]:
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        return [tensor.dtype, *((size, stride) for size, stride in steps if size > 1)]

    return all(layout(tensor) == layout(group[0]) for tensor in group)


def place(frame: FrameType | None) -> str:
    """The function of this project that runs an operator."""
    while frame:
        path = frame.f_code.co_filename
        if "/imgpipe/" in path or (path == __file__ and frame.f_code.co_name not in ("__torch_dispatch__", "launches")):
            return f"{Path(path).name} {frame.f_code.co_qualname}"
        frame = frame.f_back
    return "elsewhere"


MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def counted(step: Callable[[], object]) -> Launches:
    """The launches of the second of two steps: in the first one the optimizer makes its buffers."""
    step()
    counts = Launches()
    with counts:
        step()
    return counts


def images_and_labels(size: int, parts: int, images: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Of each part, on the CPU, as the loader gives them."""
    return [(torch.empty(images, size, size, 3, dtype=torch.uint8), torch.empty(images, dtype=torch.int64))] * parts


def ours(model: str, size: int, recipe: Train, world: World) -> Launches:
    """Of ``train_step``, on this process."""
    classifier = untrained(model, size, recipe)
    state = new_state(classifier, recipe)
    tree = FixedTree(classifier, world)
    parts = images_and_labels(size, recipe.micro_batches // world.size)
    micro_batches = [MicroBatch(images, labels, 1 / len(parts), None, 0) for images, labels in parts]
    return counted(lambda: train_step(state, tree, micro_batches, recipe, None))


def plain(model: str, size: int, recipe: Train, world: World) -> Launches:
    """Of the loop that PyTorch's documentation has: autocast, gradients added up over the parts, torch's SGD.

    With several processes they are summed by DistributedDataParallel after the last part.
    """
    from torchvision.models import get_model

    with unset_fake_temporarily(), torch.device("meta"):
        network = get_model(model, num_classes=len(CLASSES)).to(memory_format=torch.channels_last).train()
    put_on_gpu(network)
    with torch.device(GPU):
        mean, std = (255 * torch.tensor(levels).view(1, 3, 1, 1) for levels in (MEAN, STD))
    sgd: Any = recipe.optimizer
    optimizer = torch.optim.SGD(network.parameters(), **sgd.keywords)
    module = network
    if world.size > 1:
        module = DistributedDataParallel(network)
        module.register_comm_hook(None, all_reduced)
    parts = images_and_labels(size, recipe.micro_batches // world.size)

    def step() -> None:
        optimizer.zero_grad()
        losses, right = torch.zeros((), device=GPU), torch.zeros((), device=GPU, dtype=torch.int64)
        for i, (images, labels) in enumerate(parts):
            images, labels = images.to(GPU, non_blocking=True), labels.to(GPU, non_blocking=True)
            with module.no_sync() if world.size > 1 and i < len(parts) - 1 else nullcontext():
                with torch.autocast("cuda", dtype=torch.bfloat16):
                    logits = module((images.permute(0, 3, 1, 2).float() - mean) / std)
                    loss = cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
                (loss / len(parts)).backward()
            losses += loss.detach()
            right += (logits.argmax(1) == labels).sum()
        optimizer.step()

    return counted(step)


def all_reduced(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """What DistributedDataParallel does by default with the gradients of a bucket, whose mean it takes elsewhere."""
    dist.all_reduce(bucket.buffer(), async_op=True)
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future
