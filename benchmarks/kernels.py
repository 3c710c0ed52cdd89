"""How many kernels one training step launches on a GPU: ours against a plain loop that does the same work.

    make bench-kernels

No GPU is needed: both run on fake tensors, and what CUDA's dispatcher would be given is counted. A view or an empty
tensor is none; an operator over lists of tensors (foreach, fused optimizers) is as many as its tensors and their chunks
need (MultiTensorApply.cuh), or one a tensor where their strides keep it from that; a convolution, each of its gradients
and its bias is one; a copy between the CPU and the GPU is one; any other operator is one. A convolution or a BatchNorm
may launch more than one: both loops have as many of these, so the true ratio is nearer to 1 than what is printed.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import typer
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests")]

from fake_gpu import GPU, classifier_on_gpu, fake_gpu, first_of, put_on_gpu  # noqa: E402
from samples import described, form  # noqa: E402

from imgpipe.common import params  # noqa: E402
from imgpipe.model.devices import World  # noqa: E402
from imgpipe.train.loop import train_step  # noqa: E402
from imgpipe.train.micro_batches import MicroBatch  # noqa: E402
from imgpipe.train.params import Model, Train  # noqa: E402
from imgpipe.train.reduction import FixedTree  # noqa: E402
from imgpipe.train.start import new_state  # noqa: E402

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
    """Whether tensors at one place of the lists can go through one kernel: alike in shape and strides."""

    def layout(tensor: Tensor) -> list[tuple[int, int]]:
        return [(size, stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]

    return all(layout(tensor) == layout(group[0]) for tensor in group)


def place(frame: FrameType | None) -> str:
    """The function of this project that runs an operator."""
    while frame:
        path = frame.f_code.co_filename
        if "/imgpipe/" in path or (path == __file__ and frame.f_code.co_name not in ("__torch_dispatch__", "launches")):
            return f"{Path(path).name} {frame.f_code.co_qualname}"
        frame = frame.f_back
    return "elsewhere"


CLASSES = [str(number) for number in range(10)]
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


def ours(recipe: Train, model: Model, world: World) -> Launches:
    """Of ``train_step``, on this process."""
    description = described(
        model=model.name,
        classes=CLASSES,
        form=form(channels=3),
        size=model.image_size,
        device=GPU.type,
        precision=recipe.precision,
        kernels=recipe.kernels,
    )
    classifier = classifier_on_gpu(description)
    state = new_state(classifier, recipe)
    tree = FixedTree(classifier, world)
    parts = images_and_labels(model.image_size, recipe.micro_batches // world.size)
    micro_batches = [MicroBatch(images, labels, 1 / len(parts), None, 0) for images, labels in parts]
    return counted(lambda: train_step(state, tree, micro_batches, recipe, None))


def plain(recipe: Train, model: Model, world: World) -> Launches:
    """Of the loop that PyTorch's documentation has: autocast, gradients added up over the parts, torch's SGD.

    With several processes they are summed by DistributedDataParallel after the last part.
    """
    from torchvision.models import get_model

    with unset_fake_temporarily(), torch.device("meta"):
        network = get_model(model.name, num_classes=len(CLASSES)).to(memory_format=torch.channels_last).train()
    put_on_gpu(network)
    with torch.device(GPU):
        mean, std = (255 * torch.tensor(levels).view(1, 3, 1, 1) for levels in (MEAN, STD))
    sgd: Any = recipe.optimizer
    optimizer = torch.optim.SGD(network.parameters(), **sgd.keywords)
    module = network
    if world.size > 1:
        module = DistributedDataParallel(network)
        module.register_comm_hook(None, all_reduced)
    parts = images_and_labels(model.image_size, recipe.micro_batches // world.size)

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


def main(model: str = "resnet50", size: int = 224, shown: int = 12) -> None:
    """Print the launches of a step in one part and in four, and which operators make up the difference.

    The recipe is that of params.yaml, in bf16. shown: how many operators.
    """
    section = replace(params.read("model", Model, ROOT / "params.yaml"), name=model, image_size=size)
    recipe = replace(params.read("train", Train, ROOT / "params.yaml"), precision="bf16", kernels="native")
    typer.echo(f"{model} at {size} px, bf16: launches of one step, on each process")
    for processes, parts in ((1, 1), (1, 4), (2, 1), (2, 4)):
        in_parts = replace(recipe, micro_batches=processes * parts)
        with fake_gpu(), first_of(processes) if processes > 1 else nullcontext(World(0, 1, GPU)) as world:
            ours_, plain_ = ours(in_parts, section, world), plain(in_parts, section, world)
        report(f"processes: {processes}, parts of each: {parts}", ours_, plain_, shown)


def report(title: str, ours_: Launches, plain_: Launches, shown: int) -> None:
    """Print the totals and their ratio, and the operators of which ours has the most more, with where it runs them."""
    one, other = ours_.by_place.total(), plain_.by_place.total()
    typer.echo(f"\n{title:32} {'plain':>6} {'ours':>6}  ratio {one / other:.3f}")
    typer.echo(f"{'all':32} {other:6,} {one:6,}")
    here, there = ours_.by_operator, plain_.by_operator
    for name in sorted({*here, *there}, key=lambda name: there[name] - here[name])[:shown]:
        if here[name] > there[name]:
            typer.echo(f"{name:32} {there[name]:6,} {here[name]:6,}")
            for (operator, where), number in ours_.by_place.most_common():
                if operator == name:
                    typer.echo(f"{number:46,}  {where}")


if __name__ == "__main__":
    typer.run(main)
