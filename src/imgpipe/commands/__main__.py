"""The ``imgpipe`` command: what users do with finished models. A command is a function, and a line below.

A command's module imports at its top what its options need, and when it runs what takes long to import (numpy, DVC,
torch): so ``--help`` and the refusal of a wrong argument take no longer than they must.
"""

import typer

from imgpipe.commands.compare import compare
from imgpipe.commands.doctor import doctor
from imgpipe.commands.predict import predict
from imgpipe.commands.recipe import recipe
from imgpipe.commands.verify import verify
from imgpipe.common.errors import exit_on_input_error

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def about() -> None:
    """Compare experiments, use a model, and look after the machine."""


for command in (compare, doctor, predict, recipe, verify):
    app.command()(exit_on_input_error()(command))

if __name__ == "__main__":
    app(prog_name="imgpipe")
