"""``python -m imgpipe.commands``: the imgpipe command without its installation."""

from imgpipe.commands import app

if __name__ == "__main__":
    app(prog_name="imgpipe")
