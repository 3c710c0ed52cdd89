"""The ``imgpipe`` command. A subcommand is a function in a module of its name, and an entry below.

All of these modules are imported for any subcommand, so what is slow to import (numpy, DVC, torch) waits inside the
functions that need it.
"""

from collections.abc import Callable

from imgpipe.common import environment

if not environment.is_there():
    raise SystemExit(environment.LACKING)

import typer

from imgpipe.commands.audit import audit
from imgpipe.commands.clean import clean
from imgpipe.commands.compare import compare
from imgpipe.commands.doctor import doctor
from imgpipe.commands.export import export
from imgpipe.commands.gpu_check import gpu_check
from imgpipe.commands.predict import predict
from imgpipe.commands.recipe import recipe
from imgpipe.commands.result import result
from imgpipe.commands.start import start
from imgpipe.commands.upgrade import upgrade
from imgpipe.commands.verify import verify
from imgpipe.common.errors import exit_on_input_error
from imgpipe.common.kernels import fix_for_images

COMMANDS: tuple[Callable[..., None], ...] = (
    audit,
    clean,
    compare,
    doctor,
    export,
    gpu_check,
    predict,
    recipe,
    result,
    start,
    upgrade,
    verify,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def about() -> None:
    """Compare experiments, use a model, and look after the project and the machine."""
    fix_for_images()


for command in COMMANDS:
    app.command()(exit_on_input_error()(command))


@exit_on_input_error()
def main() -> None:
    """Run the command. Its help, too, may have no place where it is to go."""
    app(prog_name="imgpipe")


if __name__ == "__main__":
    main()
