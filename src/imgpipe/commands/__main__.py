"""The ``imgpipe`` command: what users do with finished models. A command is a function, and a line below."""

import functools
from collections.abc import Callable
from typing import Any

import typer

from imgpipe.commands.compare import compare
from imgpipe.commands.doctor import doctor
from imgpipe.commands.predict import predict
from imgpipe.commands.recipe import recipe
from imgpipe.common.errors import InputError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def about() -> None:
    """Compare experiments, use a model, and look after the machine."""


def add(command: Callable[..., Any]) -> None:
    """A command by the name of its function. What a user can put right is one line and exit status 1."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None

    app.command()(run)


add(compare)
add(doctor)
add(predict)
add(recipe)

if __name__ == "__main__":
    app(prog_name="imgpipe")
