"""Train the model: ``python -m stages.train``, from the project's top folder."""

import gc
import json
import os
from dataclasses import asdict
from pathlib import Path

from imgpipe.common import kernels, params, stage
from imgpipe.common.files import write_records, write_text
from imgpipe.model.runtime import Runtime, first_of_machine, started_by_torchrun
from imgpipe.train.keys import digests_of_inputs, key_of
from imgpipe.train.locks import CHECKPOINTS
from imgpipe.train.params import Model, Train
from imgpipe.train.processes import deferred_signals, die_with_parent

PACKED = Path("data/packed")
HISTORY = Path("metrics/train/history.csv")
RUNS = Path("runs")
"""Times, rates and traces, which neither Git nor DVC tracks: they differ between equal runs."""


def train() -> None:
    """Train the model.

    Reads data/packed; writes models/best.safetensors (of the epoch that did best on the validation split),
    models/last.safetensors, metrics/train/history.csv (a row for each epoch) and metrics/train/metrics.json.

    With more than one process (params.yaml: runtime.processes) it starts torchrun's launcher itself. Started by
    torchrun, it joins: torchrun --nproc-per-node 2 -m stages.train

    It saves checkpoints outside of the workspace (runtime.checkpoint_every), also when it is told to end (exit status
    143 after SIGTERM, 130 after SIGINT, 129 after SIGHUP). Run again with the same parameters, data and code, it
    resumes from there.
    """
    if started_by_torchrun() or "DVC_STAGE" in os.environ:  # a shell may end before what was started in it by hand
        die_with_parent()
    model, recipe = params.read("model", Model), params.read("train", Train)
    runtime = params.read("runtime", Runtime)
    kernels.fix_for_network(recipe.kernels)
    gc.set_threshold(50_000)  # looking for garbage among what is imported takes half a second at 700
    # below, not on top: these import torch, which takes seconds, and params.yaml is checked before
    from imgpipe.model.classifier import save_classifier
    from imgpipe.model.devices import described, joined_world
    from imgpipe.train import checkpoints, start, watching
    from imgpipe.train.loop import fit
    from imgpipe.train.micro_batches import check_splits, read_splits
    from imgpipe.train.run import opened_run
    from imgpipe.train.state import Epoch

    splits = read_splits(PACKED, recipe, fit=model.fit)
    device = start.device_of(runtime)
    if runtime.tensorboard:
        watching.check_tensorboard()
    classifier = start.untrained_classifier(model, recipe, splits.statistics, device=device)
    start.start_processes(runtime, recipe, device)  # all that can be refused is: from here on there may be several

    with deferred_signals() as stop_signal, joined_world(device) as world:
        check_splits(splits, PACKED)
        device = described(world.device)
        mine = digests_of_inputs("train", device=device) if first_of_machine() else {"device": device}
        digests = checkpoints.same_everywhere(mine, world)
        state = start.new_state(classifier.to(world.device), recipe)
        place, first = CHECKPOINTS / key_of(digests), world.rank == 0
        folder = watching.new_run_folder(RUNS) if first else RUNS
        with (
            watching.scalars(folder, wanted=first and runtime.tensorboard) as write_scalars,
            opened_run(state, runtime, world, stop_signal, checkpoints=place, folder=folder) as run,
        ):
            for epoch in watching.logged(fit(state, splits, model, recipe, run), state, run.clock):
                if first:
                    write_records(HISTORY, Epoch, state.history)
                    write_scalars(asdict(epoch), epoch.epoch)
            if first:
                assert state.best, "there is at least one epoch"
                write_records(HISTORY, Epoch, state.history)
                metrics = {"best": asdict(state.best), "last": asdict(state.history[-1])}
                write_text(Path("metrics/train/metrics.json"), json.dumps(metrics, indent=2) + "\n")
                save_classifier(Path("models/last.safetensors"), state.used)
                state.used.load_state_dict(state.best_weights)
                save_classifier(Path("models/best.safetensors"), state.used)
                watching.write_account(folder, run.clock, processes=world.size, device=world.device)


if __name__ == "__main__":
    stage.run(train)
