"""Every key of params.yaml with every wrong kind of value: each gets one line that names the key."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from closure import ROOT
from omegaconf import OmegaConf

from imgpipe.common.errors import InputError
from imgpipe.common.params import typed
from stages.check import SECTIONS

VALUES: dict[str, list[Any]] = {
    "text": ["no such word", "1e-5", "true"],
    "empty text": [""],
    "whole": [3],
    "number": [2.5],
    "yes or no": [True, False],
    "null": [None],
    "list": [[1], ["a"], [[1]]],
    "empty list": [[]],
    "mapping": [{"a": 1}, {"_target_": "builtins.print"}],
    "empty mapping": [{}],
    "reference": ["${oc.env:HOME}", "???"],
    "beyond numbers": [float("nan"), float("inf"), -float("inf"), 10**400, -(10**400)],
}

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "cosine", "polynomial", "one_cycle", "step", "multi_step", "plateau")

# What each key takes, by hand: the kinds of value, and some of these kinds that are out of its range.
UNIT = [-0.1, 1.1, -1, 2]
TAKES: dict[str, tuple[set[str], list[Any]]] = {
    "runtime.processes": ({"whole"}, [0, -3]),
    "runtime.threads": ({"whole"}, [0]),
    "runtime.device": (set(), ["gpu"]),
    "runtime.checkpoint_every": ({"whole", "number"}, [-1, -0.5]),
    "runtime.checkpoint_every_steps": ({"whole", "null"}, [0]),
    "runtime.tensorboard": ({"yes or no"}, []),
    "runtime.profile_steps": ({"whole"}, [-1]),
    "download.source": (set(), ["files"]),
    "download.location": ({"text"}, []),
    "download.url": ({"text", "null"}, []),
    "download.name": ({"null"}, ["CIFAR11"]),
    "download.sha256": ({"null"}, ["ab" * 31, "xy" * 32]),
    "prepare.pattern": (set(), ["(?P<label>", "(.*)"]),
    "prepare.table": ({"null"}, ["labels", "labels.tsv", ".csv", "a/.csv"]),
    "prepare.columns.file": ({"text"}, [" file"]),
    "prepare.columns.label": ({"text"}, ["label "]),
    "prepare.columns.split": ({"text", "null"}, [" "]),
    "prepare.columns.group": ({"text", "null"}, [" "]),
    "prepare.class_names": ({"null"}, [{0: 1}, {0: None}, {0: ["cat"]}, {True: "cat"}, {"a": "${b}"}]),
    "prepare.class_map": ({"null"}, [{"a": "b"}, {"a": []}, {"a": "rest", "b": "rest"}, {"a": {"b": 1}}]),
    "prepare.split": (set(), ["random"]),
    "prepare.val_fraction": (set(), [*UNIT, 0, 1]),
    "prepare.test_fraction": (set(), [*UNIT, 0, 1]),
    "prepare.folds": ({"whole", "null"}, [1, 0, -2]),
    "prepare.fold": (set(), [-1, 1, "all"]),
    "prepare.seed": ({"whole"}, [-1, 2**32]),
    "prepare.duplicates": (set(), ["report"]),
    "prepare.near_duplicates": (set(), ["fail"]),
    "prepare.near_correlation": (set(), [*UNIT, 0.89, 1, 0]),
    "prepare.max_rejected": (set(), UNIT),
    "prepare.format": (set(), ["zip"]),
    "pack.image_size": (set(), [7, 4097]),
    "pack.enlarge": ({"yes or no"}, []),
    "pack.channels": (set(), [2, 4, 0]),
    "pack.encoding": (set(), ["png"]),
    "pack.jpeg_quality": ({"whole"}, [0, 101]),
    "pack.levels": ({"whole"}, [0, 5]),
    "model.name": (set(), ["resnet19"]),
    "model.image_size": (set(), [7, 4097]),
    "model.crop_fraction": (set(), [*UNIT, 0]),
    "model.fit": (set(), ["stretch"]),
    "model.dropout": (set(), [*UNIT, 1]),
    "model.weights": (set(), ["imagenet", "weights.bin", "ftp://host/w.pt", "package/numpy", "package/a.pt", "timm/A"]),
    "model.weights_sha256": ({"null"}, ["ab" * 31]),
    "model.freeze": (set(), ["head"]),
    "model.unfreeze_epoch": ({"whole", "null"}, [1, 0]),
    "model.normalise": (set(), ["none"]),
    "train.seed": ({"whole"}, [-1, 2**32]),
    "train.epochs": ({"whole"}, [0]),
    "train.batch_size": ({"whole"}, [0]),
    "train.micro_batches": (set(), [0, 3, 6, -2]),
    "train.precision": (set(), ["fp8"]),
    "train.kernels": (set(), ["fast"]),
    "train.cpu_threads": ({"whole"}, [0]),
    "train.channels_last": ({"yes or no"}, []),
    "train.compile": ({"yes or no"}, []),
    "train.gradient_checkpointing": ({"yes or no"}, []),
    "train.label_smoothing": (set(), [*UNIT, 1]),
    "train.optimizer.name": (set(), ["lion"]),
    **{f"train.optimizer.{name}.lr": ({"whole", "number"}, [0, 0.0, -1]) for name in OPTIMIZERS},
    **{f"train.optimizer.{name}.weight_decay": ({"whole", "number"}, [-1, -0.1]) for name in OPTIMIZERS},
    "train.optimizer.sgd.momentum": (set(), [*UNIT, 1]),
    "train.optimizer.sgd.nesterov": ({"yes or no"}, []),
    "train.optimizer.adam.beta1": (set(), [*UNIT, 1]),
    "train.optimizer.adam.beta2": (set(), [*UNIT, 1]),
    "train.optimizer.adamw.beta1": (set(), [*UNIT, 1]),
    "train.optimizer.adamw.beta2": (set(), [*UNIT, 1]),
    "train.optimizer.rmsprop.alpha": (set(), [*UNIT, 1]),
    "train.optimizer.rmsprop.momentum": (set(), [*UNIT, 1]),
    "train.schedule.name": (set(), ["linear"]),
    **{f"train.schedule.{name}.warmup_epochs": ({"whole", "number"}, [-1, -0.5]) for name in SCHEDULES},
    "train.schedule.polynomial.power": ({"whole", "number"}, [0, -1]),
    "train.schedule.one_cycle.pct_start": (set(), [*UNIT, 0, 1]),
    "train.schedule.one_cycle.initial_factor": (set(), [*UNIT, 0]),
    "train.schedule.one_cycle.final_factor": (set(), UNIT),
    "train.schedule.step.step_epochs": ({"whole"}, [0]),
    "train.schedule.step.gamma": (set(), [*UNIT, 0]),
    "train.schedule.multi_step.milestones": (set(), [[0, 1], [2, 2], [3, 2], [1.5], [True], [None]]),
    "train.schedule.multi_step.gamma": (set(), [*UNIT, 0]),
    "train.schedule.plateau.factor": (set(), [*UNIT, 0, 1]),
    "train.schedule.plateau.patience": ({"whole"}, [-1]),
    "train.schedule.plateau.threshold": (set(), [*UNIT, 1]),
    "train.backbone_lr_factor": ({"whole", "number"}, [-1]),
    "train.decay_norms_and_biases": ({"yes or no"}, []),
    "train.last_batch": (set(), ["pad"]),
    "train.class_weights.name": (set(), ["equal"]),
    "train.class_weights.given.weights": (
        {"mapping", "empty mapping"},
        [{"a": 0}, {"a": -1}, {"a": "b"}, {"a": True}, {"a": None}],
    ),
    "train.clip_grad_norm": ({"whole", "number", "null"}, [0, -1.0]),
    "train.ema_decay": ({"null"}, [*UNIT, 1]),
    "train.monitor": (set(), ["f1", "val_loss"]),
    "train.early_stop_epochs": ({"whole", "null"}, [0]),
    "train.order": (set(), ["sorted"]),
    "train.augment.crop.name": (set(), ["random"]),
    "train.augment.crop.padded.padding": ({"whole"}, [-1]),
    "train.augment.crop.centre.fraction": (set(), [*UNIT, 0]),
    "train.augment.crop.resized.scale_low": (set(), [*UNIT, 0]),
    "train.augment.crop.resized.scale_high": (set(), [*UNIT, 0]),
    "train.augment.crop.resized.ratio_low": ({"whole", "number"}, [0, -1]),
    "train.augment.crop.resized.ratio_high": ({"whole", "number"}, [0, -1]),
    "train.augment.horizontal_flip": (set(), UNIT),
    "train.augment.vertical_flip": (set(), UNIT),
    "train.augment.rotation": ({"whole", "number"}, [-1, 181]),
    "train.augment.policy.name": (set(), ["auto_augment"]),
    "train.augment.policy.colour_jitter.brightness": ({"whole", "number"}, [-1]),
    "train.augment.policy.colour_jitter.contrast": ({"whole", "number"}, [-1]),
    "train.augment.policy.colour_jitter.saturation": ({"whole", "number"}, [-1]),
    "train.augment.policy.colour_jitter.hue": (set(), [-0.1, 0.6]),
    "train.augment.policy.rand_augment.operations": ({"whole"}, [0, 5]),
    "train.augment.policy.rand_augment.magnitude": ({"whole"}, [-1, 31]),
    "train.augment.erasing": (set(), UNIT),
    "train.mixup_alpha": ({"whole", "number"}, [-1]),
    "train.cutmix_alpha": ({"whole", "number"}, [-1]),
    "evaluate.weights": (set(), ["newest"]),
    "evaluate.batch_size": ({"whole"}, [0]),
    "evaluate.flips": ({"yes or no"}, []),
    "evaluate.temperature_scaling": ({"yes or no"}, []),
    "evaluate.target_precision": (set(), [*UNIT, 0, 1]),
    "plot.format": (set(), ["pdf"]),
    "plot.dpi": (set(), [29, 1201]),
    "plot.examples": ({"whole"}, [0, 1001]),
    "plot.mistakes": ({"whole"}, [0, 1001]),
}

RIGHT_BY_CHANCE: dict[str, list[Any]] = {
    "pack.channels": [3],
    "prepare.class_names": [{"_target_": "builtins.print"}],  # a class may have any name; nothing is called by it
    "train.schedule.multi_step.milestones": [[1]],
}
"""Samples of a wrong kind that are right for one key."""

CHOICES = {
    "train.optimizer": OPTIMIZERS,
    "train.schedule": SCHEDULES,
    "train.class_weights": ("none", "balanced", "given"),
    "train.augment.crop": ("centre", "padded", "resized"),
    "train.augment.policy": ("none", "colour_jitter", "trivial_augment", "rand_augment"),
}
"""Sections with a name, and the names that there are."""


def check(config: dict[str, Any]) -> None:
    for name, section in config.items():
        typed(section, SECTIONS[name], f"params.yaml: {name}")


def with_value(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    *sections, last = key.split(".")
    place = changed
    for section in sections:
        place = place[section]
    place[last] = value
    return changed


def as_it_comes() -> dict[str, Any]:
    """The values of params.yaml."""
    config: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "params.yaml"))
    return dict(config)


def leaves(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, dict) and f"{prefix}{name}" not in TAKES:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_sweep_knows_every_key() -> None:
    assert sorted(leaves(as_it_comes())) == sorted(TAKES)


@pytest.mark.parametrize(("section", "name"), [(section, name) for section, names in CHOICES.items() for name in names])
def test_another_choice_is_one_word(section: str, name: str) -> None:
    check(with_value(as_it_comes(), f"{section}.name", name))


@pytest.mark.parametrize("key", TAKES)
def test_a_wrong_value_is_refused_in_one_line_that_names_its_key(key: str) -> None:
    kinds, out_of_range = TAKES[key]
    wrong = [value for kind, values in VALUES.items() if kind not in kinds for value in values]
    for value in [value for value in [*wrong, *out_of_range] if value not in RIGHT_BY_CHANCE.get(key, [])]:
        with pytest.raises(InputError) as refusal:
            check(with_value(as_it_comes(), key, value))
        said = str(refusal.value)
        assert said.startswith((f"params.yaml: {key} is ", f"params.yaml: {key}.a is ")), said  # .a of a mapping
        assert "\n" not in said


@pytest.mark.parametrize("key", [*SECTIONS, *CHOICES, "prepare.columns", "train.augment", "train.optimizer.adam"])
@pytest.mark.parametrize("value", [None, 3, 2.5, True, "text", [], [1], {}, {"name": []}, {"name": None}], ids=repr)
def test_what_is_no_section_is_refused_in_one_line_that_names_it(key: str, value: Any) -> None:
    with pytest.raises(InputError) as refusal:
        check(with_value(as_it_comes(), key, value))
    assert str(refusal.value).startswith(f"params.yaml: {key}")
    assert "\n" not in str(refusal.value)
