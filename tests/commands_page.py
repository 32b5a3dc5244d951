"""docs/commands.md: what every command says of itself. `python tests/commands_page.py` writes it anew.

Rule of this room: the page is what `--help` prints, and nothing of its own but the order.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import click

from cli.main import COMMANDS, afterword

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
_INTRODUCTION = """\
# Commands

What `afterword COMMAND --help` prints, for every command; a test holds this page to it. Results go to stdout, talk and
questions to stderr. `--json` answers as one line of JSON. Secrets are asked for, or read from a file; names may be left
out where it says `[NAME]`, and are then asked for, so that they stay out of the shell's history. Durations are written
`90s`, `48h`, `7d`, `1d12h`. Exit codes: [errors.md](errors.md).
"""


def page() -> str:
    parts = [_INTRODUCTION]
    for who, places in COMMANDS.items():
        parts.append(f"## {who}\n")
        for name in places:
            command = afterword.get_command(click.Context(afterword), name)
            assert command is not None
            parts += [
                f"### afterword {path}\n\n```text\n{text}\n```\n"
                for path, text in _helps(command, name, None)
            ]
    return "\n".join(parts)


def _helps(command: click.Command, path: str, above: click.Context | None) -> Iterator[tuple[str, str]]:
    """Each help as `--help` prints it at 100 columns; a group's own first."""
    above = above or click.Context(afterword, info_name="afterword")
    context = click.Context(
        command,
        info_name=path.split()[-1],
        parent=above,
        terminal_width=100,
        help_option_names=["-h", "--help"],
    )
    yield path, command.get_help(context).rstrip()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _helps(inner, f"{path} {name}", context)


if __name__ == "__main__":
    os.umask(0o022)
    PAGE.write_text(page(), encoding="utf-8")
