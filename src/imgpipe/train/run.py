"""What a process does around the steps of a training: count them, keep their losses, check, show and save."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from imgpipe.common.errors import InputError
from imgpipe.common.progress import steps_bar
from imgpipe.model.devices import World
from imgpipe.model.runtime import Runtime
from imgpipe.train.checkpoints import Save, resumed
from imgpipe.train.compiling import MOST_GRAPHS
from imgpipe.train.processes import Interrupted
from imgpipe.train.state import TrainingState
from imgpipe.train.watching import Clock, profiled

AfterStep = Callable[[Tensor, int], None]


@dataclass(frozen=True)
class Run:
    """How this process takes part in a training."""

    world: World
    threads: int
    """How many make batches."""
    log_every: int
    """Steps between two readings of the loss."""
    stop_signal: Callable[[], int]
    """Returns the number of the signal that asks this process to stop, or 0."""
    save: Save
    """Saves the state where it is due, or, given True, because the training stops. Called after each step and epoch."""
    clock: Clock
    """Counts the seconds of ``data``, ``step``, ``validation`` and ``saving``."""
    profile_step: Callable[[], None]
    """Called after each step."""

    @contextmanager
    def epoch(self, state: TrainingState, *, epochs: int, steps: int) -> Iterator[AfterStep]:
        """Show the progress of the epoch in progress, for the length of the block.

        epochs, steps: how many there are in all.

        Yields a function to call after each step, with what ``train_step`` returned and the number of images in the
        batch. It counts the step in the state. It raises, on every process, InputError at a loss that is not finite,
        and Interrupted when one of them was asked to stop, once the state is saved.
        """
        epoch, unread = len(state.history) + 1, state.step
        signals: list[Tensor] = []
        on_cpu, first = self.world.device.type == "cpu", self.world.rank == 0
        with steps_bar(f"epoch {epoch}/{epochs}", steps, done=state.step, shown=first) as advance:

            def after_step(sums: Tensor, images: int) -> None:
                nonlocal unread
                signal = sums.new_full((len(sums), 1), self.stop_signal())
                gathered = of_all_processes(torch.cat([sums, signal], 1), self.world)
                state.sums[state.step] = gathered[:, :2]
                signals.append(gathered[:, 2].max())
                self.profile_step()
                self.clock.images += images
                shown = state.step % self.log_every == 0 or state.step + 1 == steps
                state.step += 1
                if on_cpu or shown:  # reading waits for a GPU
                    losses = state.sums[unread : state.step, :, 0].cpu()
                    check_finite(losses, epoch=epoch, first_step=unread + 1)
                    unread = state.step
                    if number := int(torch.stack(signals).max()):  # on every process, whichever was asked
                        self.save(True)
                        raise Interrupted(number)
                    signals.clear()
                with self.clock("saving"):
                    self.save(False)
                advance(f"loss {losses[-1].sum() / images:.4f}" if shown else None)

            yield after_step


@contextmanager
def opened_run(
    state: TrainingState,
    runtime: Runtime,
    world: World,
    stop_signal: Callable[[], int],
    *,
    checkpoints: Path,
    folder: Path,
) -> Iterator[Run]:
    """Resume the training, if it can be, and make the run that goes on with it, for the length of the block.

    state: of a training before its first step; it is brought to the newest checkpoint.
    checkpoints: folder of this very training's, which is removed when the block ends well.
    folder: for the profiler's trace.

    Raises InputError and Interrupted as ``resumed`` does.
    """
    first = world.rank == 0
    with (
        resumed(
            state,
            checkpoints,
            world,
            every_seconds=runtime.checkpoint_every,
            every_steps=runtime.checkpoint_every_steps,
            stop_signal=stop_signal,
        ) as save,
        profiled(folder, steps=runtime.profile_steps if first else 0) as profile_step,
    ):
        yield Run(world, runtime.loader_threads, runtime.log_every, stop_signal, save, Clock(), profile_step)


def of_all_processes(rows: Tensor, world: World) -> Tensor:
    """Gather the rows of every process, one process's after another's."""
    if world.size == 1:
        return rows
    every = rows.new_empty(world.size * len(rows), rows.shape[1])
    dist.all_gather_into_tensor(every, rows)
    return every


def check_finite(losses: Tensor, *, epoch: int, first_step: int) -> None:
    """Raise InputError at the first step with a loss, (steps, micro-batches), that is not finite.

    epoch, first_step: of the losses, counted from 1.
    """
    broken = (~losses.isfinite().all(1)).nonzero()
    if len(broken):
        raise diverged(f"the loss of step {first_step + int(broken[0])} of epoch {epoch}")


def diverged(what: str) -> InputError:
    """Make the error for a loss that is not finite."""
    return InputError(
        f"training diverged: {what} is not finite; "
        "try a lower lr (train.optimizer), a longer warm-up, train.clip_grad_norm or precision fp32"
    )


@contextmanager
def explained(images: int) -> Iterator[None]:
    """Turn an error that a micro-batch of so many images causes into an InputError that says what to do.

    Raises it where memory did not suffice, where BatchNorm gets a single value, and where there is no end of compiling.
    """
    try:
        yield
    except Exception as error:
        if "more than 1 value per channel" in str(error):  # the compiler says it in an error of its own
            raise InputError(
                "BatchNorm needs more than one value of each channel, and a micro-batch of one image has but one where "
                "the network has made it 1 x 1; take fewer train.micro_batches, a larger model.image_size, or "
                "last_batch drop"
            ) from None
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise InputError(
                f"memory does not suffice for micro-batches of {images} images (train.batch_size / micro_batches); "
                "twice the train.micro_batches halve them, and train.gradient_checkpointing takes less for each"
            ) from None
        if type(error).__name__ == "FailOnRecompileLimitHit":  # of a module that takes seconds to import
            raise InputError(
                f"params.yaml: train.compile is true, and torch.compile has made {MOST_GRAPHS} versions of a part of "
                "the network and would need more; make it false"
            ) from None
        raise
