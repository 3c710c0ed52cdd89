"""Taking a training up where its newest checkpoint left it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

from imgpipe.common.errors import InputError
from imgpipe.model.devices import World, of_first_process
from imgpipe.train.checkpoints import newest_checkpoint, remove_checkpoints, sole_use, state_in, write_checkpoint
from imgpipe.train.interruption import Interrupted
from imgpipe.train.state import TrainingState


@contextmanager
def resumed(
    state: TrainingState,
    folder: Path,
    world: World,
    *,
    every_seconds: float,
    every_steps: int | None,
    stop_signal: Callable[[], int],
) -> Iterator[Callable[[bool], None]]:
    """Brings the state to the newest checkpoint in the folder, if there is one, and gives a function that saves it.

    folder: of this very training, which one run at a time uses; it is removed when the block ends well. The first
    process reads and writes it, and tells the others. stop_signal: the signal that asks this process to stop, or 0.

    The function is to be called after each step and each epoch. It saves when so many seconds or steps have passed, or
    when it is told that it must. Where that fails, say on a full disk, it warns, and the training goes on.

    Raises, in every process, InputError where another run uses the folder; Interrupted when the first process was asked
    to stop while it waited for that run.
    """
    with ExitStack() as stack:
        content, refusal, number = None, None, 0
        if world.rank == 0:
            try:
                stack.enter_context(sole_use(folder, stop_signal))
                content = newest_checkpoint(folder)
            except InputError as error:
                refusal = str(error)
            except Interrupted:
                number = stop_signal()
        content, refusal, number = of_first_process((content, refusal, number), world)
        if number:
            raise Interrupted(number)
        if refusal is not None:
            raise InputError(refusal)
        if content is not None:
            state.restore(state_in(content))
            logging.info("going on from epoch %d, step %d", len(state.history) + 1, state.step + 1)

        saved_at, steps = monotonic(), 0

        def save(must: bool) -> None:
            nonlocal saved_at, steps
            after_step = state.step > 0  # 0 after an epoch, whose last step was counted
            steps += after_step
            enough_steps = after_step and every_steps and steps % every_steps == 0
            due = monotonic() - saved_at >= every_seconds or enough_steps
            if world.rank == 0 and (must or due):
                try:
                    write_checkpoint(folder, f"{len(state.history):06}-{state.step:09}", state.saved())
                except OSError as error:
                    logging.warning("no checkpoint could be saved (%s); the training goes on without", error)
                saved_at = monotonic()

        yield save
        if world.rank == 0:
            remove_checkpoints(folder)
