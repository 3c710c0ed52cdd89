"""Say how many training images an epoch leaves out. Apart from the other remarks, since training runs this."""

LARGE_SHARE = 0.1
"""Share of an epoch's images from which on those left out are more than a rounding."""


def shown_in_an_epoch(images: int, *, batch_size: int, last_batch: str) -> int:
    """Return how many of the training images each epoch trains on.

    last_batch: ``train.last_batch`` of params.yaml.
    """
    return images if last_batch == "keep" else images // batch_size * batch_size


def left_out(images: int, shown: int, batch_size: int, *, least: float) -> str | None:
    """Say how many images each epoch leaves out because they do not fill a batch.

    images: of the training split.
    shown: how many of them an epoch trains on.
    least: share of the images below which there is nothing to say.
    """
    lost = images - shown
    if not lost or lost / images < least:
        return None
    share = f", {lost / images:.0%}".replace("%", " %") if lost / images >= LARGE_SHARE else ""
    return (
        f"each epoch leaves out the last {lost:,} of its {images:,} images{share}, others each time: they do not fill "
        f"a batch of {batch_size:,}; train.last_batch keep trains on them, too, and a smaller train.batch_size on more "
        "of them"
    )
