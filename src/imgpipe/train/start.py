"""The beginning of a training: the classifier before the first step, its optimizer, and what of it is frozen."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from imgpipe.common.errors import InputError
from imgpipe.common.wording import are
from imgpipe.data.packed import Statistics
from imgpipe.data.parallel import cores
from imgpipe.model import gpus
from imgpipe.model.classifier import Classifier, new_classifier
from imgpipe.model.description import Description
from imgpipe.model.devices import device_type, set_up_computing
from imgpipe.model.networks import head_of
from imgpipe.model.runtime import DEVICE, LAUNCHER, Runtime, started_by_torchrun
from imgpipe.train.compiling import compile_network
from imgpipe.train.normalisation import NORMALISATIONS
from imgpipe.train.params import Model, Train
from imgpipe.train.processes import (
    PROCESSES,
    check_process_count,
    largest_process_count,
    machine_count,
    restart_under_torchrun,
    with_more_micro_batches,
)
from imgpipe.train.recomputing import recompute_in_backward
from imgpipe.train.state import MovingAverage, TrainingState
from imgpipe.train.weights import load_initial_weights

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Every batch and instance norm, and the others; torchvision's LayerNorm2d is a LayerNorm."""


def untrained_classifier(model: Model, recipe: Train, statistics: Statistics, *, device: str) -> Classifier:
    """Build the classifier as it is before the first step, on the CPU, and set this process up to compute.

    statistics: of the packed images.
    device: where it will be trained, ``cpu`` or ``cuda``.

    Raises InputError where it can't be built, its weights can't be had, or there is nothing to freeze.
    """
    description = Description(
        model=model.name,
        dropout=model.dropout,
        classes=statistics.classes,
        form=replace(statistics.form, levels=1),  # as evaluation and prediction see images
        size=model.image_size,
        crop_fraction=model.crop_fraction,
        fit=model.fit,
        initial_weights="none",
        channels_last=recipe.channels_last,
        device=device,
        precision=recipe.precision,
        kernels=recipe.kernels,
        cpu_threads=recipe.cpu_threads,
        flips=False,
        temperature=1.0,
        threshold=None,
        set_thresholds={},
        val_images=0,
    )
    set_up_computing(cpu_threads=recipe.cpu_threads, precision=recipe.precision)
    torch.manual_seed(recipe.seed)
    classifier = new_classifier(description, *NORMALISATIONS[model.normalise](statistics.mean, statistics.std))
    origin = load_initial_weights(classifier.network, model, cache=Path(torch.hub.get_dir(), "checkpoints"))
    classifier.description = replace(description, initial_weights=origin)
    freeze(classifier.network, model.freeze)
    return classifier


def new_state(classifier: Classifier, recipe: Train) -> TrainingState:
    """Make the state of a training before its first step.

    classifier: on the device where it will be trained. It is made to compute as the recipe says.
    """
    network = classifier.network
    groups = parameter_groups(
        network,
        head=head_of(network),
        backbone_lr_factor=recipe.backbone_lr_factor,
        decay_norms_and_biases=recipe.decay_norms_and_biases,
    )
    optimizer = recipe.optimizer(groups)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    scaler = torch.amp.GradScaler(classifier.mean.device.type, enabled=recipe.precision == "fp16")
    average = MovingAverage(classifier, decay=recipe.ema_decay) if recipe.ema_decay is not None else None
    if recipe.gradient_checkpointing:
        recompute_in_backward(network)
    if recipe.compile:
        compile_network(network)
    return TrainingState(classifier, optimizer, scaler, average, recipe.monitor)


def parameter_groups(
    network: nn.Module, *, head: str, backbone_lr_factor: float, decay_norms_and_biases: bool
) -> list[dict[str, Any]]:
    """Sort all parameters of the network, frozen ones too, into groups for an optimizer, none of them empty.

    head: path of the layer, as in ``get_submodule``, that learns at the full rate; all others are the backbone.
    backbone_lr_factor: by which the backbone's learning rate is to be multiplied.
    decay_norms_and_biases: where false, all that is ``_undecayed`` gets ``weight_decay`` 0.

    Returns the groups: dicts of ``params``, ``lr_factor`` and, where it is 0, ``weight_decay``. With a factor of 1 and
    decay for all it is one group, in the network's order.
    """
    undecayed = set() if decay_norms_and_biases else _undecayed(network)
    prefix = f"{head}." if head else ""
    assert any(name.startswith(prefix) for name, _ in network.named_parameters()), f"no parameters at {head}"
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        lr_factor = 1.0 if name.startswith(prefix) else backbone_lr_factor
        decays = name not in undecayed
        unlike_others = {} if decays else {"weight_decay": 0.0}
        group = groups.setdefault((lr_factor, decays), {"params": [], "lr_factor": lr_factor, **unlike_others})
        group["params"].append(parameter)
    return list(groups.values())


def _undecayed(network: nn.Module) -> set[str]:
    """Return the names of the parameters that are no weights by which features are multiplied and summed.

    Those are all of norm layers, all of fewer than two dimensions, and all that are not called weights: scales, tokens,
    tables of positions. Of a network of timm's it is also what its authors name.
    """
    undecayed: set[str] = set()
    if hasattr(network, "no_weight_decay"):
        undecayed.update(network.no_weight_decay())  # type: ignore[operator]
    for path, layer in network.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            is_weight = "weight" in name and parameter.dim() >= 2  # attention's is in_proj_weight
            if isinstance(layer, NORMS) or not is_weight:
                undecayed.add(full)
    return undecayed


def device_of(runtime: Runtime) -> str:
    """Return where to train, ``cpu`` or ``cuda``.

    Raises InputError where cuda is asked for and not there.
    """
    return device_type(runtime.device, asked_by=DEVICE)


def freeze(network: nn.Module, frozen: str) -> None:
    """Set which parameters are trained, whatever was before; to be called after each ``network.train()``.

    frozen: ``none``; or ``batchnorm``: the parameters and running statistics of every BatchNorm, which is put in
        evaluation mode: otherwise its statistics would move on, and it would not use them; or ``backbone``: those, and
        all other parameters but the head's. Dropout goes on.

    Raises InputError where there is no BatchNorm to freeze.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    if frozen == "batchnorm" and not norms:
        raise InputError("params.yaml: model.freeze is 'batchnorm', and the model has none; use none or backbone")
    network.requires_grad_(frozen != "backbone")
    network.get_submodule(head_of(network)).requires_grad_(True)
    for norm in norms if frozen != "none" else []:
        norm.requires_grad_(False).eval()


def start_processes(runtime: Runtime, recipe: Train, device: str) -> None:
    """Start this stage anew where that takes several processes, or not all GPUs, and do not return.

    device: ``cpu`` or ``cuda``. A GPU is taken for each process, as ``gpus.take`` does; where torchrun was started from
        outside, each takes its own.

    Raises InputError where so many processes can't share out the micro-batches evenly, or lack GPUs.
    """
    batch = {"micro_batches": recipe.micro_batches, "batch_size": recipe.batch_size}
    if started_by_torchrun():
        check_process_count(
            int(os.environ["WORLD_SIZE"]), **batch, machines=1, said_by="torchrun's number of processes is"
        )
        if device == "cuda" and LAUNCHER not in os.environ:  # otherwise the launcher has them
            gpus.take_own()
        return
    if gpus.is_holder():
        return
    machines = machine_count(**batch)
    uuids = gpus.visible() if device == "cuda" else []
    share = take_gpus(uuids, runtime, recipe, machines=machines) if uuids else None
    if share:
        processes = len(share.numbers)
    elif runtime.processes == "auto":
        room = cores() // recipe.cpu_threads if device == "cpu" else torch.cuda.device_count()
        processes = largest_process_count(room, micro_batches=recipe.micro_batches, machines=machines)
    else:
        processes = runtime.processes
    if processes != 1 or machines != 1:
        restart_under_torchrun("stages.train", processes, machines=machines, cpu_threads=recipe.cpu_threads)
    if share and share.shown > 1:
        gpus.start_anew()


def take_gpus(uuids: Sequence[str], runtime: Runtime, recipe: Train, *, machines: int) -> gpus.Share:
    """Take the GPUs to train on, one for each process on this machine, and say which of how many.

    uuids: of all that there are, at least one.

    Raises InputError where there are fewer than ``runtime.processes`` asks for.
    """
    asked = runtime.processes
    if asked != "auto" and asked > len(uuids):
        raise InputError(f"{PROCESSES} {asked}, but there are {len(uuids)} GPUs here; each process needs one")

    def wanted(free: int) -> int:
        if asked != "auto":
            return asked if free >= asked else 0
        return min(free, largest_process_count(free, micro_batches=recipe.micro_batches, machines=machines))

    share = gpus.take(uuids, wanted)
    used, others = len(share.numbers), len(share.users)
    if used < share.shown:
        said = [f"{used} of {share.shown} GPUs {are(used)} used: {', '.join(map(str, share.numbers))}"]
        said += [f"other runs have {others}"] if others else []
        if free := share.shown - used - others:
            said.append(f"runtime.processes and train.micro_batches leave {free} free")
        batch = {"micro_batches": recipe.micro_batches, "batch_size": recipe.batch_size}
        if asked == "auto" and (more := with_more_micro_batches(used + free, **batch, machines=machines)):
            said.append(f"it could be {more}")
        logging.info("; ".join(said))
    return share
