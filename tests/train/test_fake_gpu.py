"""Training, evaluation and the exchange on a GPU that is not there: see ``fake_gpu``.

What they prove: all tensors are where they belong, no number is asked for while the GPU computes, and no operator runs
that would raise there, since its kernels can't be deterministic.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from fake_gpu import GPU, fake_gpu, first_of, untrained
from nondeterministic import OPERATORS, RAISING, names_in
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import DenseNet, MaxVit
from torchvision.models._api import register_model
from trainings import CLASSES, RECIPE, random_split

from imgpipe.model import predict
from imgpipe.model.devices import PRECISIONS, World, be_deterministic
from imgpipe.model.predict import predict_batch, predict_split
from imgpipe.train import optim
from imgpipe.train.loop import train_step
from imgpipe.train.micro_batches import MicroBatch, cut, draw_mix
from imgpipe.train.params import Train
from imgpipe.train.reduction import FixedTree
from imgpipe.train.start import new_state
from imgpipe.train.state import TrainingState

ONE_PART = replace(RECIPE, micro_batches=1, batch_size=2, precision="bf16")
ALONE = World(0, 1, GPU)

FAMILIES = {
    "simple_cnn": 8,
    "resnet9": 16,
    "resnet18": 32,
    "vgg11_bn": 32,
    "alexnet": 64,
    "shallow_densenet": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "efficientnet_b0": 32,
    "vit_b_32": 32,
    "convnext_tiny": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "shallow_maxvit": 64,
    "inception_v3": 75,
    "googlenet": 32,
    "squeezenet1_1": 32,
    "shufflenet_v2_x0_5": 32,
    "mnasnet0_5": 32,
    "regnet_x_400mf": 32,
}
"""The smallest network of each, and images as small as it takes."""


@register_model()  # type: ignore[untyped-decorator]
def shallow_densenet(weights: None, **options: Any) -> Any:
    """DenseNet with two layers in a block: the smallest of torchvision's has 121 layers, which takes seconds."""
    return DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, **options)


@register_model()  # type: ignore[untyped-decorator]
def shallow_maxvit(weights: None, **options: Any) -> Any:
    """MaxViT with one layer in each of two blocks, and windows of 4 in place of 7."""
    return MaxVit(
        input_size=(64, 64),
        stem_channels=16,
        partition_size=4,
        block_channels=[16, 32],
        block_layers=[1, 1],
        head_dim=8,
        stochastic_depth_prob=0.2,
        **options,
    )


ADAM = partial(optim.adam, lr=0.1, beta1=0.9, beta2=0.999, weight_decay=0.01)
ADAMW = partial(optim.adamw, lr=0.1, beta1=0.9, beta2=0.999, weight_decay=0.01)
RMSPROP = partial(optim.rmsprop, lr=0.1, alpha=0.9, momentum=0.9, weight_decay=0.01)
RECIPES: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "fp16": {"precision": "fp16"},
    "fp16, clipped": {"precision": "fp16", "clip_grad_norm": 1.0},
    "fp16, adam": {"precision": "fp16", "optimizer": ADAM},
    "fp16, adamw, clipped": {"precision": "fp16", "optimizer": ADAMW, "clip_grad_norm": 1.0},
    "fp16, rmsprop": {"precision": "fp16", "optimizer": RMSPROP},
    "adam": {"optimizer": ADAM},
    "adamw, no decay of norms": {"optimizer": ADAMW, "decay_norms_and_biases": False},
    "rmsprop": {"optimizer": RMSPROP},
    "mixup": {"mixup_alpha": 0.2},
    "cutmix": {"cutmix_alpha": 1.0},
    "moving average": {"ema_decay": 0.9},
    "clipped": {"clip_grad_norm": 1.0},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "label smoothing": {"label_smoothing": 0.1},
    "four parts": {"micro_batches": 4},
    "a kept last batch with fillers": {"micro_batches": 4, "last_batch": "keep"},
    "not channels_last": {"channels_last": False},
}


class Recorded(TorchDispatchMode):
    """What ran.

    dtypes: of the first tensor that each operator was given.
    waits: copies between the CPU and the GPU for which the CPU would wait.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtypes: defaultdict[str, set[torch.dtype]] = defaultdict(set)
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:  # of which there are thousands
            return args[0].fake_device
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        tensors = [value for value in args if isinstance(value, Tensor)]
        self.dtypes[name] |= {value.dtype for value in tensors[:1]}
        if name in ("_to_copy", "copy_"):
            from_to = tensors[-1].device.type, result.device.type
            non_blocking = (kwargs or {}).get("non_blocking") or args[2:] == (True,)
            if len(set(from_to)) == 2 and not non_blocking:
                self.waits.append(f"{name} from {from_to[0]} to {from_to[1]}")
        return result

    @property
    def raising(self) -> set[str]:
        """Those that would raise on a GPU."""
        return RAISING & self.dtypes.keys()


@pytest.fixture(autouse=True)
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    mode = torch.get_deterministic_debug_mode()
    be_deterministic()
    yield
    torch.set_deterministic_debug_mode(mode)


def micro_batches(recipe: Train, size: int, images: int) -> list[MicroBatch]:
    """The last batch of an epoch of so many images, on the CPU."""
    made = []
    for number, (place, weight) in enumerate(cut(images, recipe)[-1]):
        pixels = torch.empty(place.stop - place.start, size, size, 3, dtype=torch.uint8)
        mix = draw_mix(recipe, size, 0, number)
        made.append(MicroBatch(pixels, torch.empty(len(pixels), dtype=torch.int64), weight, mix, number))
    return made


def check_training(recorded: Recorded, state: TrainingState, sums: Tensor, recipe: Train) -> None:
    """Nothing waited or would raise; every tensor that is left is on the GPU and of the dtype that is expected."""
    assert not recorded.raising
    assert recorded.waits == []
    assert (sums.device, sums.dtype) == (GPU, torch.float64)
    assert PRECISIONS[recipe.precision] in recorded.dtypes["convolution"]
    for parameter in state.classifier.parameters():
        assert parameter.grad is not None
        assert {(t.device, t.dtype) for t in (parameter, parameter.grad)} == {(GPU, torch.float32)}
        kept = [value for value in state.optimizer.state[parameter].values() if isinstance(value, Tensor)]
        assert {(value.device, value.dtype) for value in kept} <= {(GPU, torch.float32)}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_of_networks_waits_for_the_gpu_or_runs_what_can_not_be_deterministic(family: str) -> None:
    size, recorded = FAMILIES[family], Recorded()
    with fake_gpu():
        classifier = untrained(family, size, ONE_PART)
        state, tree = new_state(classifier, ONE_PART), FixedTree(classifier, ALONE)
        batch = micro_batches(ONE_PART, size, 2)
        with recorded:
            sums = train_step(state, tree, batch, ONE_PART, None)
        check_training(recorded, state, sums, ONE_PART)
        with recorded:
            logits = predict_batch(classifier.eval(), batch[0].images)
    assert (logits.device, logits.dtype, logits.shape) == (GPU, torch.float32, (2, 3))


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_no_recipe_waits_for_the_gpu_or_runs_what_can_not_be_deterministic(changes: dict[str, Any]) -> None:
    recipe, recorded = replace(ONE_PART, **{"batch_size": 8, **changes}), Recorded()
    with fake_gpu():
        classifier = untrained("resnet9", 16, recipe, dropout=0.5, flips=True)
        state, tree = new_state(classifier, recipe), FixedTree(classifier, ALONE)
        weights = torch.empty(len(CLASSES), device=GPU)
        batch = micro_batches(recipe, 16, 8 if recipe.last_batch == "drop" else 3)
        with recorded:
            sums = train_step(state, tree, batch, recipe, weights)
        check_training(recorded, state, sums, recipe)
        logits = predict_batch(state.used.eval(), batch[0].images)
    assert (logits.device, logits.dtype) == (GPU, torch.float32)
    assert recorded.dtypes["convolution"] == {PRECISIONS[recipe.precision]}
    assert recorded.dtypes["mm"] == {torch.float32}, "the last layer computes in fp32"


@pytest.mark.parametrize("processes", [2, 4])
def test_the_exchange_waits_for_nothing(processes: int) -> None:
    recipe, recorded = replace(ONE_PART, batch_size=16, micro_batches=2 * processes, precision="fp32"), Recorded()
    with fake_gpu(), first_of(processes) as world:
        classifier = untrained("resnet9", 16, recipe)
        state, tree = new_state(classifier, recipe), FixedTree(classifier, world)
        mine = micro_batches(recipe, 16, 16)[:2]
        with recorded:
            sums = train_step(state, tree, mine, recipe, None)
    check_training(recorded, state, sums, recipe)
    assert any(name.startswith("c10d::") for name in recorded.dtypes), "the processes exchange something"


def test_the_prediction_of_a_split_asks_for_no_number_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its end it looks whether each image was seen once, which a fake tensor can't tell."""
    recorded = Recorded()

    def batches(*_: Any, **__: Any) -> Iterator[tuple[Tensor, Tensor, slice]]:
        for place in (slice(0, 4), slice(4, 5)):
            yield torch.empty(place.stop - place.start, 16, 16, 3, dtype=torch.uint8), torch.empty(0), place

    monkeypatch.setattr(predict, "batches", batches)
    with fake_gpu(), first_of(2) as world, recorded:
        classifier = untrained("resnet9", 16, ONE_PART)
        with pytest.raises(DataDependentOutputException):
            predict_split(classifier, random_split(5), world, batch_size=4, threads=1, says="testing")
    assert not recorded.raising
    assert recorded.waits == []
    assert "all" in recorded.dtypes, "it came to its end"


def test_an_operator_that_can_not_be_deterministic_is_seen() -> None:
    recorded = Recorded()
    with fake_gpu(), recorded:
        images = torch.empty(1, 3, 8, 8, device=GPU, requires_grad=True)
        adaptive_avg_pool2d(images, 3).sum().backward()
        assert recorded.raising == {"_adaptive_avg_pool2d_backward"}
        images.new_zeros(1).cpu()
    assert recorded.waits == ["_to_copy from cuda to cpu"]


def test_the_list_of_operators_that_raise_is_that_of_this_torch() -> None:
    assert names_in("libtorch_cuda.so") == set(OPERATORS)
