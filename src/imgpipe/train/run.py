"""What a process does around the steps of a training: count them, keep their losses, check, show and save."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from imgpipe.common.errors import InputError
from imgpipe.common.progress import steps_shown
from imgpipe.model.devices import World
from imgpipe.model.runtime import Runtime
from imgpipe.train.checkpoints import Save, resumed
from imgpipe.train.compiling import MOST_GRAPHS
from imgpipe.train.processes import Interrupted
from imgpipe.train.state import TrainingState
from imgpipe.train.watching import Clock, profiled

AfterStep = Callable[[Tensor, int], None]

STEPS_BEHIND = 4
"""Steps that a GPU has ahead of it while what an earlier one gave is read: it never waits for Python's next one."""


@dataclass(frozen=True)
class Run:
    """How this process takes part in a training."""

    world: World
    threads: int
    """How many make batches."""
    stop_signal: Callable[[], int]
    """Returns the number of the signal that asks this process to stop, or 0."""
    save: Save
    """Called after each step and epoch; with the signal's number where one stops the training."""
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
        and Interrupted when one of them was asked to stop, once the state is saved. On a GPU it learns of both some
        steps later: reading what a step gave would have the GPU wait for Python.
        """
        epoch = len(state.history) + 1
        unread: deque[tuple[int, int, Callable[[], Tensor]]] = deque()
        with self._shown(f"epoch {epoch}/{epochs}", steps, done=state.step) as advance:

            def after_step(sums: Tensor, images: int) -> None:
                signal = sums.new_full((len(sums), 1), self.stop_signal())
                gathered = of_all_processes(torch.cat([sums, signal], 1), self.world)
                state.sums[state.step] = gathered[:, :2]
                self.profile_step()
                self.clock.images += images
                state.step += 1
                unread.append((state.step, images, copied_to_cpu(gathered)))
                behind = 0 if self.world.device.type == "cpu" or state.step == steps else STEPS_BEHIND
                while len(unread) > behind:
                    step, shown, copy = unread.popleft()
                    with self.clock("step"):
                        losses, _, signals = zip(*copy().tolist(), strict=True)
                    check_memory_sufficed(self.world.device)
                    if not math.isfinite(sum(losses)):
                        raise diverged(f"the loss of step {step} of epoch {epoch}")
                    if number := int(max(signals)):  # on every process, whichever was asked
                        self.save(number)
                        raise Interrupted(number)
                    advance(f"loss {sum(losses) / shown:.4f}")
                with self.clock("saving"):
                    self.save(0)

            yield after_step

    def _shown(self, description: str, steps: int, *, done: int) -> AbstractContextManager[Callable[[str], None]]:
        """Show steps on the first process; on the others do nothing."""
        if self.world.rank:
            return nullcontext(lambda beside: None)
        return steps_shown(description, steps, done=done)


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
        yield Run(world, runtime.loader_threads(world.device.type), stop_signal, save, Clock(), profile_step)


def of_all_processes(rows: Tensor, world: World) -> Tensor:
    """Gather the rows of every process, one process's after another's."""
    if world.size == 1:
        return rows
    every = rows.new_empty(world.size * len(rows), rows.shape[1])
    dist.all_gather_into_tensor(every, rows)
    return every


def copied_to_cpu(rows: Tensor) -> Callable[[], Tensor]:
    """Begin to copy rows to the CPU, without waiting for what computes them.

    Returns a function that waits for the copy and returns it.
    """
    copy = rows.to("cpu", non_blocking=True)
    if rows.device.type == "cpu":
        return lambda: copy
    copied = torch.cuda.Event(blocking=True)  # lets the threads that make batches have the core meanwhile
    copied.record()

    def waited_for() -> Tensor:
        copied.synchronize()
        return copy

    return waited_for


def check_memory_sufficed(device: torch.device) -> None:
    """Check that so far each thing that was to be in a GPU's memory found its place there.

    Where the working memory of one of cuDNN's algorithms does not, PyTorch takes the next one without a word, and that
    one has other bits (``try_configs`` in ATen's Conv_v8.cpp). Any other failure would have ended the step. Counted is
    what failed even after all memory that was merely kept had been given back (``malloc`` in CUDACachingAllocator.cpp).

    Raises InputError where something did not.
    """
    if device.type == "cuda" and torch.cuda.memory_stats_as_nested_dict(device).get("num_ooms"):
        raise InputError(
            "memory of the GPU did not suffice for an algorithm of cuDNN's, and another would change the result; free "
            "it of other programs, or take twice the train.micro_batches, or train.gradient_checkpointing"
        )


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
