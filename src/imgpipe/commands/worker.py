"""Run a worker of a Dask cluster that computes as stages do: ``python -m imgpipe.commands.worker``.

It takes the arguments of ``dask worker``, and the processes that it starts have its environment.
"""

from imgpipe.common.kernels import fix_for_images


def work() -> None:
    """Run ``dask worker``."""
    fix_for_images()
    from distributed.cli.dask_worker import main  # an extra, and it loads numpy

    main()


if __name__ == "__main__":
    work()
