"""What a model file may hold, and the one line that anything else gets: it comes from anybody."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from samples import described

import imgpipe
from imgpipe.commands.provenance import read_model
from imgpipe.common.errors import InputError
from imgpipe.model.classifier import new_classifier, save_classifier
from imgpipe.model.description import read_description, read_head

FILE = Path("model.safetensors")


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good model file in the current folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_classifier(FILE, new_classifier(described(), [0.5], [0.2]))


def write(head: Any, tensors: dict[str, torch.Tensor] | None = None) -> None:
    """Writes the file anew with another head or other tensors."""
    save_file(load_file(FILE) if tensors is None else tensors, FILE, {"imgpipe": json.dumps(head)})


def refusal(open_it: Any = imgpipe.load) -> str:
    """The line that opening the file gives, which names it."""
    with pytest.raises(InputError) as refused:
        open_it(FILE)
    said = str(refused.value)
    assert said.startswith(f"'{FILE}' is no classifier that this imgpipe can read (")
    assert said.endswith("; take what dvc repro leaves in models/")
    assert said.isprintable()
    assert len(said) < 1000
    return said


ODD = [
    None, True, -1, 0, 0.5, 3, 10**9, 10**30, -(10**400), float("nan"), float("inf"), -1e308, "", "odd", "\x1b[31m\n",
    "\ud800", "${oc.env:HOME}", [], [1], ["a", "a"], ["\ud800"], [["a"]], {}, {"a": 1}, {"0.90": 2}, "a" * 100_000,
]  # fmt: skip
FITTING: dict[str, list[Any]] = {
    "dropout": [0, 0.5],
    "initial_weights": ["", "odd", "\x1b[31m\n", "\ud800", "${oc.env:HOME}", "a" * 100_000],
    "size": [],
    "crop_fraction": [0.5],
    "channels_last": [True],
    "flips": [True],
    "enlarge": [True],
    "temperature": [0.5, 3, 10**9, 10**30],
    "threshold": [None, 0, 0.5],
    "set_thresholds": [{}],
    "val_images": [0, 3, 10**9],
    "cpu_threads": [3],
    "channels": [3],
    "jpeg_quality": [3],
}
"""Of the odd values those that a field takes."""


def test_an_odd_value_of_any_field_of_the_description_is_refused_in_one_line_that_names_it() -> None:
    head = read_head(FILE)
    for field in head:
        for value in [
            value for value in ODD if not any(value is one or value == one for one in FITTING.get(field, []))
        ]:
            if isinstance(value, bool) != isinstance(head[field], bool) or value != head[field]:
                write({**head, field: value})
                assert field.removeprefix("packed_") in refusal(read_description), (field, value)
        write({name: value for name, value in head.items() if name != field})
        assert " is missing" in refusal(read_description)


@pytest.mark.parametrize("head", [None, [], 3, "text", {}], ids=repr)
def test_a_head_that_is_no_description_is_refused(head: Any) -> None:
    write(head)
    refusal(read_description)


FETCHING = [
    "fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "maskrcnn_resnet50_fpn", "ssd300_vgg16", "fcn_resnet50",
    "deeplabv3_resnet50", "lraspp_mobilenet_v3_large", "quantized_resnet18", "r3d_18", "raft_large",
    "torchvision.models.resnet18", "../resnet18", "timm/hf-hub:somebody/model", "timm/https://example.org", "timm/",
]  # fmt: skip


@pytest.mark.parametrize("name", FETCHING)
def test_a_network_that_is_no_classifier_or_would_be_fetched_is_refused(name: str) -> None:
    write({**read_head(FILE), "model": name})
    assert name in refusal()


def changed(name: str, tensor: torch.Tensor | None) -> dict[str, torch.Tensor]:
    tensors = load_file(FILE)
    return {key: value for key, value in {**tensors, name: tensor}.items() if value is not None}


def with_one(name: str, number: float) -> torch.Tensor:
    tensor = load_file(FILE)[name]
    tensor.view(-1)[-1] = number
    return tensor


LAYER = "network.0.weight"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [LAYER, "mean", "std"])
def test_a_number_that_is_not_finite_is_refused_and_never_an_answer(name: str, number: float) -> None:
    write(read_head(FILE), changed(name, with_one(name, number)))
    assert f"its tensor {name} is not finite" in refusal()


def test_tensors_that_are_not_those_of_the_network_are_refused() -> None:
    head, good = read_head(FILE), load_file(FILE)
    for tensors, said in (
        ({}, "its tensor mean has shape None, and it must be (1,)"),
        (changed(LAYER, None), f"its tensor {LAYER} has shape None, and it must be (32, 1, 3, 3)"),
        (changed("more\x1b[31m\n", torch.zeros(1)), r"its tensor 'more\x1b[31m\n' is none of a simple_cnn's"),
        (
            changed(LAYER, torch.zeros(32, 1, 3)),
            f"its tensor {LAYER} has shape (32, 1, 3), and it must be (32, 1, 3, 3)",
        ),
        (changed(LAYER, torch.zeros(())), f"its tensor {LAYER} has shape (), and"),
        (changed(LAYER, load_file(FILE)[LAYER].double()), f"its tensor {LAYER} is of torch.float64"),
        (changed(LAYER, load_file(FILE)[LAYER].to(torch.float8_e5m2)), f"its tensor {LAYER} is of torch.float8_e5m2"),
        (changed(LAYER, load_file(FILE)[LAYER].bool()), f"its tensor {LAYER} is of torch.bool"),
        (changed("std", torch.zeros(1)), "its tensor std holds a number that is not above 0"),
    ):
        write(head, tensors)
        assert said in refusal()
        save_file(good, FILE)


@pytest.mark.parametrize("size", [1024, 4096])
def test_a_network_that_is_larger_than_its_file_is_refused_before_it_takes_memory(size: int) -> None:
    """Of simple_cnn at 1,024 pixels one layer alone takes 2 GB, at 4,096 pixels 34 GB."""
    write({**read_head(FILE), "size": size})
    assert "the network that it describes is larger than the file" in refusal()


def test_finite_weights_that_make_numbers_that_are_not_are_no_answer() -> None:
    write(read_head(FILE), {name: torch.full_like(tensor, 3e38) for name, tensor in load_file(FILE).items()})
    with pytest.raises(InputError, match="the model makes numbers of an image that are not finite; its file is"):
        imgpipe.load(FILE).predict(torch.zeros(8, 8, dtype=torch.uint8).numpy())


def test_an_odd_value_of_what_the_model_was_made_from_is_refused() -> None:
    made_from = {
        "sources": {"images.tar": "ab" * 32},
        "code": {"src/a.py": "cd" * 32},
        "parameters": {"train": {"epochs": 3}},
        "packages": {"torch": "2.11"},
        "metrics": {"val": {"loss": 0.5}, "test": {"loss": 0.5, "threshold": None}},
    }
    head = read_head(FILE)
    write({**head, "provenance": made_from})
    assert read_model(FILE).made_from == made_from
    odd = [None, 3, "text", [], [1], {}, {"a": [1]}, {"a": None}, {"val": {"loss": "low"}, "test": {}}, {"train": 3}]
    for name in made_from:
        for value in odd if name != "parameters" else [value for value in odd if value != {} and value != odd[8]]:
            write({**head, "provenance": {**made_from, name: value}})
            assert f"provenance.{name} is " in refusal(read_model), (name, value)
    for value in (3, "text", [], {}):
        write({**head, "provenance": value})
        assert "provenance" in refusal(read_model)
