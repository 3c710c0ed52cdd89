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

# What each key takes, by hand: the kinds of value, and some of these kinds that are out of its range.
UNIT = [-0.1, 1.1, -1, 2]
TAKES: dict[str, tuple[set[str], list[Any]]] = {
    "runtime.processes": ({"whole"}, [0, -3]),
    "runtime.threads": ({"whole"}, [0]),
    "runtime.device": (set(), ["gpu"]),
    "runtime.log_every": ({"whole"}, [0]),
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
    "prepare.seed": ({"whole"}, [-1, 2**32]),
    "prepare.duplicates": (set(), ["report"]),
    "prepare.near_duplicates": (set(), ["fail"]),
    "prepare.near_distance": ({"whole"}, [-1, 9]),
    "prepare.max_rejected": (set(), UNIT),
    "prepare.format": (set(), ["zip"]),
    "pack.image_size": (set(), [7, 4097]),
    "pack.enlarge": ({"yes or no"}, []),
    "pack.channels": (set(), [2, 4, 0]),
    "pack.encoding": (set(), ["png"]),
    "pack.jpeg_quality": ({"whole"}, [0, 101]),
    "model.name": (set(), ["resnet19"]),
    "model.image_size": (set(), [7, 4097]),
    "model.crop_fraction": (set(), [*UNIT, 0]),
    "model.dropout": (set(), [*UNIT, 1]),
    "model.weights": (set(), ["imagenet", "weights.bin", "ftp://host/w.pt"]),
    "model.weights_sha256": ({"null"}, ["ab" * 31]),
    "model.freeze": (set(), ["head"]),
    "model.unfreeze_epoch": ({"whole", "null"}, [1, 0]),
    "model.normalise": (set(), ["none"]),
    "train.seed": ({"whole"}, [-1, 2**32]),
    "train.epochs": ({"whole"}, [0]),
    "train.batch_size": ({"whole"}, [0]),
    "train.micro_batches": (set(), [0, 3, 6, -2]),
    "train.precision": (set(), ["fp8"]),
    "train.cpu_threads": ({"whole"}, [0]),
    "train.channels_last": ({"yes or no"}, []),
    "train.compile": ({"yes or no"}, []),
    "train.gradient_checkpointing": ({"yes or no"}, []),
    "train.label_smoothing": (set(), [*UNIT, 1]),
    "train.optimizer.name": (set(), ["lion"]),
    "train.optimizer.lr": ({"whole", "number"}, [0, 0.0, -1]),
    "train.optimizer.momentum": (set(), [*UNIT, 1]),
    "train.optimizer.weight_decay": ({"whole", "number"}, [-1, -0.1]),
    "train.optimizer.nesterov": ({"yes or no"}, []),
    "train.optimizer.beta1": (set(), [*UNIT, 1]),
    "train.optimizer.beta2": (set(), [*UNIT, 1]),
    "train.optimizer.alpha": (set(), [*UNIT, 1]),
    "train.schedule.name": (set(), ["linear"]),
    "train.schedule.warmup_epochs": ({"whole", "number"}, [-1, -0.5]),
    "train.schedule.power": ({"whole", "number"}, [0, -1]),
    "train.schedule.pct_start": (set(), [*UNIT, 0, 1]),
    "train.schedule.initial_factor": (set(), [*UNIT, 0]),
    "train.schedule.final_factor": (set(), UNIT),
    "train.schedule.step_epochs": ({"whole"}, [0]),
    "train.schedule.gamma": (set(), [*UNIT, 0]),
    "train.schedule.milestones": (set(), [[0, 1], [2, 2], [3, 2], [1.5], [True], [None]]),
    "train.schedule.factor": (set(), [*UNIT, 0, 1]),
    "train.schedule.patience": ({"whole"}, [-1]),
    "train.schedule.threshold": (set(), [*UNIT, 1]),
    "train.backbone_lr_factor": ({"whole", "number"}, [-1]),
    "train.decay_norms_and_biases": ({"yes or no"}, []),
    "train.last_batch": (set(), ["pad"]),
    "train.class_weights.name": (set(), ["equal"]),
    "train.class_weights.weights": ({"mapping"}, [{"a": 0}, {"a": -1}, {"a": "b"}, {"a": True}, {"a": None}]),
    "train.clip_grad_norm": ({"whole", "number", "null"}, [0, -1.0]),
    "train.ema_decay": ({"null"}, [*UNIT, 1]),
    "train.early_stop_epochs": ({"whole", "null"}, [0]),
    "train.order": (set(), ["sorted"]),
    "train.augment.crop.name": (set(), ["random"]),
    "train.augment.crop.padding": ({"whole"}, [-1]),
    "train.augment.crop.fraction": (set(), [*UNIT, 0]),
    "train.augment.crop.scale_low": (set(), [*UNIT, 0]),
    "train.augment.crop.scale_high": (set(), [*UNIT, 0]),
    "train.augment.crop.ratio_low": ({"whole", "number"}, [0, -1]),
    "train.augment.crop.ratio_high": ({"whole", "number"}, [0, -1]),
    "train.augment.horizontal_flip": (set(), UNIT),
    "train.augment.vertical_flip": (set(), UNIT),
    "train.augment.rotation": ({"whole", "number"}, [-1, 181]),
    "train.augment.policy.name": (set(), ["auto_augment"]),
    "train.augment.policy.brightness": ({"whole", "number"}, [-1]),
    "train.augment.policy.contrast": ({"whole", "number"}, [-1]),
    "train.augment.policy.saturation": ({"whole", "number"}, [-1]),
    "train.augment.policy.hue": (set(), [-0.1, 0.6]),
    "train.augment.policy.operations": ({"whole"}, [0, 5]),
    "train.augment.policy.magnitude": ({"whole"}, [-1, 31]),
    "train.augment.erasing": (set(), UNIT),
    "train.mixup_alpha": ({"whole", "number"}, [-1]),
    "train.cutmix_alpha": ({"whole", "number"}, [-1]),
    "evaluate.weights": (set(), ["newest"]),
    "evaluate.batch_size": ({"whole"}, [0]),
    "evaluate.flips": ({"yes or no"}, []),
    "evaluate.temperature_scaling": ({"yes or no"}, []),
    "evaluate.target_precision": (set(), [*UNIT, 0]),
    "plot.format": (set(), ["pdf"]),
    "plot.dpi": (set(), [29, 1201]),
    "plot.examples": ({"whole"}, [0, 1001]),
    "plot.mistakes": ({"whole"}, [0, 1001]),
}

RIGHT_BY_CHANCE: dict[str, list[Any]] = {
    "pack.channels": [3],
    "prepare.class_names": [{"_target_": "builtins.print"}],  # a class may have any name; nothing is called by it
    "train.schedule.milestones": [[1]],
}
"""Samples of a wrong kind that are right for one key."""

OTHER_CHOICES: dict[str, list[dict[str, Any]]] = {
    "train.optimizer": [
        {"name": "adam", "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
        {"name": "adamw", "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
        {"name": "rmsprop", "lr": 0.1, "alpha": 0.9, "momentum": 0.0, "weight_decay": 0.0},
    ],
    "train.schedule": [
        {"name": "constant", "warmup_epochs": 0},
        {"name": "polynomial", "warmup_epochs": 0, "power": 2.0},
        {"name": "one_cycle", "warmup_epochs": 0, "pct_start": 0.3, "initial_factor": 0.1, "final_factor": 0.0},
        {"name": "step", "warmup_epochs": 0, "step_epochs": 2, "gamma": 0.1},
        {"name": "multi_step", "warmup_epochs": 0, "milestones": [2], "gamma": 0.1},
        {"name": "plateau", "warmup_epochs": 0, "factor": 0.1, "patience": 2, "threshold": 0.0},
    ],
    "train.class_weights": [{"name": "balanced"}, {"name": "given", "weights": {"cat": 2.0}}],
    "train.augment.crop": [
        {"name": "centre", "fraction": 1.0},
        {"name": "resized", "scale_low": 0.1, "scale_high": 1.0, "ratio_low": 0.75, "ratio_high": 1.5},
    ],
    "train.augment.policy": [
        {"name": "colour_jitter", "brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1},
        {"name": "trivial_augment"},
        {"name": "rand_augment", "operations": 2, "magnitude": 9},
    ],
}


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


def every_choice() -> Iterator[dict[str, Any]]:
    """The file as it comes, and with each of the other choices in turn."""
    config: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "params.yaml"))
    yield config
    for key, choices in OTHER_CHOICES.items():
        for choice in choices:
            yield with_value(config, key, choice)


def leaves(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, dict) and f"{prefix}{name}" not in TAKES:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


FILES = {key: config for config in reversed([*every_choice()]) for key in leaves(config)}
"""For each key a file that has it."""


def test_the_sweep_knows_every_key_and_every_choice() -> None:
    assert sorted(FILES) == sorted(TAKES)
    for config in every_choice():
        check(config)


@pytest.mark.parametrize("key", TAKES)
def test_a_wrong_value_is_refused_in_one_line_that_names_its_key(key: str) -> None:
    kinds, out_of_range = TAKES[key]
    wrong = [value for kind, values in VALUES.items() if kind not in kinds for value in values]
    for value in [value for value in [*wrong, *out_of_range] if value not in RIGHT_BY_CHANCE.get(key, [])]:
        with pytest.raises(InputError) as refusal:
            check(with_value(FILES[key], key, value))
        said = str(refusal.value)
        assert said.startswith(f"params.yaml: {key} is "), said
        assert "\n" not in said


@pytest.mark.parametrize("key", [*SECTIONS, *OTHER_CHOICES, "prepare.columns", "train.augment"])
@pytest.mark.parametrize("value", [None, 3, 2.5, True, "text", [], [1], {}, {"name": []}, {"name": None}], ids=repr)
def test_what_is_no_section_is_refused_in_one_line_that_names_it(key: str, value: Any) -> None:
    (config, *_) = every_choice()
    with pytest.raises(InputError) as refusal:
        check(with_value(config, key, value))
    assert str(refusal.value).startswith(f"params.yaml: {key}")
    assert "\n" not in str(refusal.value)
