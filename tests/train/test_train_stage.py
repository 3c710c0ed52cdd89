"""Each parameter of the train stage reaches the training: the stage itself, run in this process on a few images."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Project, copy_of
from safetensors.torch import load_file
from torch.utils.checkpoint import checkpoint

from imgpipe.common.errors import InputError
from imgpipe.model.classifier import load_classifier
from imgpipe.train import recomputing

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def small(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two epochs in few steps; only the parameters and what the train stage writes change from test to test."""
    project = copy_of(finished_project, tmp_path_factory.mktemp("train") / "project")
    project.set(train__batch_size=64, train__schedule__cosine__warmup_epochs=0, train__precision="fp32")
    project.commit("Few steps")
    return project


def trained(project: Project, **values: object) -> Weights:
    project.succeed("git", "checkout", "--quiet", "params.yaml")
    project.set(**values)
    project.here("train")
    return load_file(project.folder / "models" / "last.safetensors")


@pytest.fixture(scope="module")
def plain(small: Project) -> Weights:
    return trained(small)


def equal(a: Weights, b: Weights, *, only: str = "") -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items() if only in name)


CHANGES: dict[str, dict[str, Any]] = {
    "train.last_batch": {"train__last_batch": "keep"},
    "train.class_weights": {
        "train__class_weights__name": "given",
        "train__class_weights__given": {"weights": {"0": 5.0}},
    },
    "train.clip_grad_norm": {"train__clip_grad_norm": 0.01},
    "train.ema_decay": {"train__ema_decay": 0.9},
    "train.backbone_lr_factor": {"train__backbone_lr_factor": 0.1},
    "train.decay_norms_and_biases": {"train__decay_norms_and_biases": False},
    "train.early_stop_epochs": {"train__early_stop_epochs": 1, "train__epochs": 9, "train__optimizer__sgd__lr": 1e-30},
    "model.normalise": {"model__normalise": "half"},
    "model.dropout": {"model__dropout": 0.5},
}


@pytest.mark.parametrize("values", CHANGES.values(), ids=CHANGES)
def test_it_changes_the_weights(small: Project, plain: Weights, values: dict[str, Any]) -> None:
    assert not equal(trained(small, **values), plain)


def test_the_same_parameters_give_the_same_weights(small: Project, plain: Weights) -> None:
    assert equal(trained(small, runtime__threads=3), plain)


def test_frozen_layers_stay_as_they_are_until_they_are_thawed(small: Project) -> None:
    """BatchNorm's of resnet9_narrow, on the 8 pixels of the images enlarged to 16."""
    values = {
        "model__name": "resnet9_narrow",
        "model__image_size": 16,
        "model__freeze": "batchnorm",
        "train__batch_size": 160,
    }
    one = trained(small, **values, train__epochs=1)
    two = trained(small, **values)
    thawed = trained(small, **values, model__unfreeze_epoch=2)
    norms = [name.removesuffix("running_mean") for name in one if name.endswith("running_mean")]
    assert norms
    assert all(equal(one, two, only=norm) for norm in norms)
    assert not equal(one, two)
    assert not any(equal(one, thawed, only=norm) for norm in norms)


def test_it_starts_from_the_weights_of_a_file(small: Project) -> None:
    trained(small)
    file = small.folder.parent / "weights.safetensors"
    file.write_bytes((small.folder / "models" / "best.safetensors").read_bytes())
    digest = sha256(file.read_bytes()).hexdigest()
    start = load_file(file)
    values = {"model__weights": str(file), "model__weights_sha256": digest, "model__freeze": "backbone"}
    ended = trained(small, **values)
    head = "network.9."
    assert equal({name: value for name, value in start.items() if head not in name}, ended)
    assert not equal(start, ended, only=head)


def test_gradient_checkpointing_computes_again_and_gives_the_same_bits(
    small: Project, plain: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return checkpoint(*arguments, **options)

    monkeypatch.setattr(recomputing, "checkpoint", counted)
    assert equal(trained(small, train__gradient_checkpointing=True), plain)
    assert calls


def test_a_training_that_diverges_says_so(small: Project) -> None:
    with pytest.raises(
        InputError, match=r"training diverged: the loss of step \d of epoch 1 is not finite; try a lower"
    ):
        trained(small, train__optimizer__sgd__lr=1e30)


def test_the_order_in_memory_is_kept_with_the_model(small: Project) -> None:
    for channels_last in (True, False):
        trained(small, train__channels_last=channels_last, train__epochs=1)
        classifier = load_classifier(small.folder / "models" / "last.safetensors")
        assert classifier.description.channels_last == channels_last
        weights = classifier.network.get_parameter("3.weight")
        assert weights.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_a_run_leaves_an_account_of_itself_that_is_no_output(small: Project) -> None:
    before = set(Path(small.folder, "runs").glob("*"))
    trained(small, runtime__profile_steps=1)
    (run,) = set(Path(small.folder, "runs").glob("*")) - before
    assert sorted(file.name for file in run.iterdir()) == ["trace.json", "training.json"]
    assert "runs" not in small.succeed("git", "status", "--short").out
