"""When a training that no longer gets better is over."""

from collections.abc import Sequence


def stopped_improving(val_losses: Sequence[float], patience: int) -> bool:
    """Whether none of the last ``patience`` epochs had a lower validation loss than every epoch before them.

    val_losses: of the epochs done, in order. patience: at least 1.

    >>> [stopped_improving([0.9, 0.7, 0.8, 0.7, 0.6][:epochs], 2) for epochs in range(6)]
    [False, False, False, False, True, False]
    """
    return len(val_losses) > patience and min(val_losses[-patience:]) >= min(val_losses[:-patience])
