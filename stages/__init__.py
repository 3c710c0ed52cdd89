"""The stages of the pipeline, one command each. A stage runs the library that lies beside it, in ``src``.

DVC runs queued experiments in copies of the project: each must run its own code and not an installed copy.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
