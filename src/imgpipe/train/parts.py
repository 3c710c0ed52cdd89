"""How the images of an epoch are cut into batches, and these into parts."""

Part = tuple[slice, float]


def cut(images: int, *, batch_size: int, micro_batches: int, keep_last: bool) -> list[list[Part]]:
    """For each batch its parts: which places of the epoch's order they are, and their shares of the batch.

    batch_size: a multiple of micro_batches. keep_last: whether the images that do not fill a batch are one.

    A part of such a last batch may be short, and where there are none left for it, it stands in with the first part's
    images and a share of 0, so that every process has as many parts as ever.

    >>> cut(6, batch_size=4, micro_batches=2, keep_last=False)
    [[(slice(0, 2, None), 0.5), (slice(2, 4, None), 0.5)]]
    """
    size = batch_size // micro_batches
    whole = images // batch_size * batch_size
    batches = []
    for start in range(0, images if keep_last else whole, batch_size):
        end = min(start + batch_size, images)
        first = slice(start, min(start + size, end))
        cuts = (slice(place, min(place + size, end)) for place in range(start, start + batch_size, size))
        batches.append([(c, (c.stop - c.start) / (end - start)) if c.start < end else (first, 0.0) for c in cuts])
    return batches
