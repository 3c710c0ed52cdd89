"""The stages of the pipeline, one command each. A stage runs the library that lies beside it, in ``src``.

DVC runs queued experiments in copies of the project. Each must run its own code and not an installed copy, so dvc.yaml
starts the stages with ``PYTHONPATH=src``.

Python runs this before a stage imports anything: a Python without the packages is told so in one line, and the
libraries that work on images compute the same on every processor.
"""

try:
    from imgpipe.common import environment
    from imgpipe.common.kernels import fix_for_images
except ModuleNotFoundError:
    raise SystemExit("error: Python does not find imgpipe; run stages as dvc.yaml does, with PYTHONPATH=src") from None

if not environment.is_there():
    raise SystemExit(environment.LACKING)

fix_for_images()
