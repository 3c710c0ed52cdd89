"""The stages of the pipeline, one command each. A stage runs the library that lies beside it, in ``src``.

DVC runs queued experiments in copies of the project. Each must run its own code and not an installed copy, so dvc.yaml
starts the stages with ``PYTHONPATH=src``.

Python runs this before a stage imports anything: the libraries that work on images compute the same on every processor.
"""

from imgpipe.common.kernels import fix_for_images

fix_for_images()
