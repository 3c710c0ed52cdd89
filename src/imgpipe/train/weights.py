"""Put the weights that training starts from into a network that may have other classes."""

import fcntl
import hashlib
import importlib
import io
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors.torch import load
from torch import Tensor, nn

from imgpipe.common.errors import InputError, without_secrets
from imgpipe.common.files import sha256_of
from imgpipe.common.rules import one_of
from imgpipe.data import fetching
from imgpipe.model.names import TIMM, torchvision_name
from imgpipe.model.networks import head_of, last_layer_of
from imgpipe.train.params import Model
from imgpipe.train.weight_names import (
    ENDINGS,
    PACKAGE,
    PACKAGES,
    ending,
    is_a_name,
    is_an_address,
    is_packaged,
    is_timm_s,
    packaged_file,
)

WEIGHTS = "params.yaml: model.weights is"
SHA256 = "params.yaml: model.weights_sha256 is"
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads of GoogLeNet and Inception v3 that torchvision's weights have, and no network here."""
NAMED = 3
"""How many layers that do not fit are named."""


def load_initial_weights(network: nn.Module, model: Model, *, cache: Path) -> str:
    """Put weights into the network, in place. Where its head has another shape, it starts anew, and the log says so.

    The last layer of a new head starts from zeros: every class is as likely before the first step, and it sends no
    random gradient into the trained layers.

    model: names the weights. A file holds tensors by their names in the network, as ``state_dict`` gives them, or has
        them under ``model`` or ``state_dict``; or it is one of imgpipe's. Only tensors are unpickled.
    cache: folder where what is fetched is kept.

    Returns what they are, for the model file: ``none``, or their name, their address and the SHA-256 of the file.

    Raises InputError where they can't be had, have another hash, or do not fit. Where ``weights_sha256`` is null and
    one is needed, it says what it would be.
    """
    weights, sha256 = model.weights, model.weights_sha256
    if weights == "none":
        return weights
    said = f"{WEIGHTS} '{weights}'"
    origin, expected = without_secrets(weights), model.weights_sha256
    if is_packaged(weights):
        path, expected = _packaged_file(weights), PACKAGES[weights.removeprefix(PACKAGE)].sha256
    elif is_a_name(weights):
        address = _torchvision_address(weights, model.name)
        origin = f"{weights} {address}"
        path, expected = _torchvision_file(weights, address, cache)
    elif is_timm_s(weights):
        address = _timm_address(weights, model.name)
        origin = f"{weights} {without_secrets(address)}"
        path = _fetched(address, cache / f"{sha256}{ending(address)}", sha256, f"{said}, at", SHA256)
    elif is_an_address(weights):
        path = _fetched(weights, cache / f"{sha256}{ending(weights)}", sha256, WEIGHTS, SHA256)
    else:
        path = _verified(Path(weights), sha256)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if expected is None or not digest.startswith(expected.lower()):
        raise InputError(f"{said}, whose file {path} was changed while it was read; run this again")
    tensors = _read(content, path.suffix, said)
    if is_packaged(weights):
        tensors = _in_order(tensors, network)
    _fit(network, tensors, f"{said}, which does not fit {model.name}")
    return f"{origin} sha256:{digest}"


def _packaged_file(weights: str) -> Path:
    """Return the file of weights that a package holds."""
    path = packaged_file(weights)
    assert path, "params.yaml is checked for that"
    expected = PACKAGES[weights.removeprefix(PACKAGE)].sha256
    got = sha256_of(path) if path.is_file() else "no such file"
    if got != expected:
        raise InputError(
            f"{WEIGHTS} '{weights}', whose file {path} has the SHA-256 {expected}, and there is {got}; "
            "install the package again"
        )
    return path


def _in_order(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors by the names of the network's, which stand in the same order."""
    return dict(zip(network.state_dict(), tensors.values(), strict=True))


def _timm_address(weights: str, model: str) -> str:
    """Return where timm says that its weights of this tag are."""
    timm = importlib.import_module("timm")  # an extra, of which the type checker need not know
    tag, name = weights.removeprefix(TIMM), model.removeprefix(TIMM)
    known = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if tag not in known:
        there_are = one_of(TIMM + other for other in known) if known else "none"
        raise InputError(f"{WEIGHTS} '{weights}', which {model} does not have; it must be {there_are}")
    config = timm.models.get_pretrained_cfg(f"{name}.{tag}")
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")  # as Hugging Face's own client has it
    address = f"{hub}/{config.hf_hub_id}/resolve/main/model.safetensors" if config.hf_hub_id else config.url
    logging.info("model.weights: %s is %s", weights, address)
    if ending(address) not in ENDINGS:
        raise InputError(f"{WEIGHTS} '{weights}', whose file {address} does not end in {one_of(ENDINGS)}")
    return address


def _torchvision_address(weights: str, model: str) -> str:
    """Return where torchvision says that its weights of this name are."""
    from torchvision.models import get_model_weights

    name = torchvision_name(model)
    assert name, "params.yaml is checked for that"
    known = get_model_weights(name).__members__
    if weights not in known:
        raise InputError(f"{WEIGHTS} '{weights}', which {model} does not have; it must be {one_of(['none', *known])}")
    address: str = known[weights].url
    return address


def _torchvision_file(weights: str, address: str, cache: Path) -> tuple[Path, str]:
    """Return the file of torchvision's weights and the first digits of its SHA-256, in which its name ends."""
    file = PurePosixPath(urlsplit(address).path).name
    digits = re.search(r"-([0-9a-f]{8,})\.", file)
    assert digits, "torchvision's files are named so"
    path = _fetched(address, cache / file, digits[1], f"{WEIGHTS} '{weights}', at", "torchvision's hash of it is")
    return path, digits[1]


def _fetched(address: str, path: Path, sha256: str | None, url_is: str, sha256_is: str) -> Path:
    """Return the path, with the file of an address there: fetched unless it has that hash, or starts with it."""
    if _has_hash(path, sha256):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name("imgpipe.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # each process of a run, and each run, may want the same file
            if not _has_hash(path, sha256):
                fetching.fetch(address, path, partial=path.parent / "partial", sha256=sha256)
    except fetching.AddressError as error:
        raise InputError(f"{url_is} {error}") from None
    except fetching.HashError as error:
        raise InputError(f"{sha256_is} {error}") from None
    except OSError as error:
        raise InputError(f"{path.parent} can't be written: {error}; TORCH_HOME names another place for it") from None
    return path


def _has_hash(path: Path, sha256: str | None) -> bool:
    return sha256 is not None and path.is_file() and sha256_of(path).startswith(sha256.lower())


def _verified(path: Path, sha256: str | None) -> Path:
    if not path.is_file():
        raise InputError(f"{WEIGHTS} '{path}', and there is no such file; a path is read from the project's top folder")
    got = sha256_of(path)
    if sha256 is None:
        raise InputError(f"{SHA256} null, which a file needs; {path} has sha256: {got}; paste it if you trust it")
    if got != sha256.lower():
        raise InputError(f"{SHA256} '{sha256}', but {path} has {got}; take that if the file is meant")
    return path


def _read(content: bytes, suffix: str, said: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without what imgpipe puts around those of the network."""
    found: Any
    try:
        if suffix == ".safetensors":
            found = load(content)
        else:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what a broken file raises depends on where it is broken
        raise InputError(
            f"{said}, which can't be read as weights: {str(error).strip().partition(chr(10))[0]}"
        ) from None
    for key in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(_is_named_tensor(*item) for item in found.items()):
        raise InputError(
            f"{said}, which holds no tensors by name, as state_dict gives them, nor has them under model or state_dict"
        )
    ours = {name.removeprefix("network."): value for name, value in found.items() if name.startswith("network.")}
    return ours if set(found) - {f"network.{name}" for name in ours} == {"mean", "std"} else found


def _is_named_tensor(name: Any, value: Any) -> bool:
    """Return whether these are a text and a tensor of numbers, neither sparse nor of a size alone."""
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _fit(network: nn.Module, weights: dict[str, Tensor], misfit: str) -> None:
    """Load the weights, those of the head only if all of them fit. misfit: what an error says first."""
    head = f"{head_of(network)}."
    state = network.state_dict()
    places = _plain_names(state, head)
    given = {plain: weights[name] for plain, name in _plain_names(weights, head).items()}
    problems = {name: problem for name in {**places, **given} if (problem := _problem(name, given, state, places))}
    of_head = [f"{name} {problem}" for name, problem in problems.items() if name.startswith(head)]
    others = [f"{name} {problem}" for name, problem in problems.items() if not name.startswith(head)]
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        raise InputError(
            f"{misfit}: {', '.join(others[:NAMED])}{more}; check model.name, model.image_size and pack.channels"
        )
    if of_head:
        logging.info("model.weights: the last layer is new, since it is for other classes: %s", ", ".join(of_head))
    fitting = [name for name in places if name in given and not (of_head and name.startswith(head))]
    state.update({places[name]: given[name] for name in fitting})
    network.load_state_dict(state)
    if of_head:
        for parameter in last_layer_of(network).parameters():
            nn.init.zeros_(parameter)


def _problem(name: str, given: dict[str, Tensor], state: Mapping[str, Tensor], places: dict[str, str]) -> str | None:
    """Return what is wrong with the weights of this name, to stand after it."""
    if name not in given:  # older files lack the count
        return None if name.endswith("num_batches_tracked") else "is missing"
    if name not in places:
        return None if name.startswith(AUXILIARY) else "is not in the network"
    theirs, ours = tuple(given[name].shape), tuple(state[places[name]].shape)
    if theirs != ours:
        return f"has shape {theirs}, not {ours}"
    return None if given[name].isfinite().all() else "is not finite"


def _plain_names(names: Iterable[str], head: str) -> dict[str, str]:
    """Return the names by what they would be without dropout before the head, and as torchvision gives them today.

    Dropout puts the head one level deeper (fc.1.weight for fc.weight); DenseNet's layers were once called norm.1.
    """
    names = list(names)
    deeper = any(name.startswith(f"{head}1.") for name in names) and not any(n.startswith(f"{head}0.") for n in names)
    plain = [name.replace(f"{head}1.", head, 1) if deeper and name.startswith(head) else name for name in names]
    plain = [re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name) for name in plain]
    return dict(zip(plain, names, strict=True))
