"""Talking with the person at the terminal.

Rule of this room: nobody else prints or asks. Results go to stdout, talk to stderr; whatever is printed is
made harmless first, because names and sentences in it may come from strangers.
"""

import getpass
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TextIO, TypeVar

import click

from vault.clock import DAY, HOUR, MINUTE, SECOND, write_duration
from vault.errors import BadUsage, Refused

if TYPE_CHECKING:
    import msgspec

T = TypeVar("T", bound="msgspec.Struct | Mapping[str, object]")

SHORTEST_PASSPHRASE: Final = 8
COMFORTABLE_PASSPHRASE: Final = 14
_TRIES: Final = 3

# From a length on, to which unit it is rounded down.
_ROUGH: Final = ((2 * DAY, HOUR), (2 * HOUR, MINUTE))
# Bytes that are moved in a moment need no line.
_WORTH_A_LINE: Final = 1_000_000
# Nearer than this, dates are told to the second.
_NEAR: Final = 2 * HOUR
# The last day that every zone can name, ms UTC.
_LATEST: Final = 253_402_246_800_000

# Everything that could move a cursor, colour a line, or turn the direction in which a name reads.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)

# Spaces, and what stands in a column of its own before the words.
_BEGINNING: Final = re.compile(r" *(?:\S+(?: \S+)* {2,})?")

json_option = click.option("--json", "as_json", is_flag=True, help="Answer as JSON, for scripts.")
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Read the passphrase from the first line of this file.",
)


def clean(text: str) -> str:
    """The same text with control and direction characters spelled out instead of obeyed."""
    return _UNPRINTABLE.sub(lambda found: _spelled(ord(found[0])), text)


def one_line(text: str, longest: int = 500) -> str:
    """A stranger's sentence, so that it cannot pass for lines of ours."""
    return clean(" ".join(text.split()))[:longest]


def result(text: str) -> None:
    """What the command was asked for."""
    _print(text, sys.stdout)


def document(text: str) -> None:
    """A file of our own making, byte for byte, its line ends too."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def say(text: str = "") -> None:
    _print(text, sys.stderr)


def warn(text: str) -> None:
    _print(f"Warning: {text}", sys.stderr)


def answer(value: T, as_json: bool, render: Callable[[T], str | None]) -> None:
    """The command's answer: one line of JSON, or what `render` makes of it for people."""
    if as_json:
        import msgspec

        _print(msgspec.json.encode(value).decode(), sys.stdout)
    elif (text := render(value)) is not None:
        result(text)


def interactive() -> bool:
    """Whether a person sits there, rather than a script that holds the conversation."""
    return sys.stdin is not None and sys.stdin.isatty()


def clear() -> None:
    """Take what was shown off the screen, and out of what can be scrolled back to."""
    sys.stderr.write("\x1b[H\x1b[2J\x1b[3J")
    sys.stderr.flush()


def ask(prompt: str) -> str:
    """One line, without the spaces around it."""
    return _ask(prompt, _read_line).strip()


def ask_secret(prompt: str) -> str:
    """One line, exactly as typed, not shown while it is typed."""
    return _ask(prompt, _read_unseen if interactive() else _read_line)


def confirm(prompt: str) -> bool:
    return ask(f"{prompt} [y/N]").casefold() in {"y", "yes", "s", "si", "sí"}


def passphrase(file: Path | None = None, confirm: bool = False, prompt: str = "Passphrase") -> str:
    """From `file`, else AFTERWORD_PASSPHRASE_FILE, else asked for; a new one (`confirm`) is asked for twice."""
    if file is None and (named := os.environ.get("AFTERWORD_PASSPHRASE_FILE")):
        file = Path(named)
    if file is not None:
        found = _first_line(file)
        if confirm:
            _check_passphrase(found)
        return found
    return new_passphrase(prompt) if confirm else ask_secret(prompt)


def new_passphrase(prompt: str) -> str:
    """Asked for twice, until it can be used: whoever has just written 24 words is not to begin anew for a slip.

    A script has three tries. Refused with code `passphrase-too-short`, BadUsage with code `passphrases-differ`.
    """
    tries = 0
    while True:
        tries += 1
        last = tries >= _TRIES and not interactive()
        chosen = ask_secret(prompt)
        try:
            _check_passphrase(chosen)
        except Refused as wrong:
            if last:
                raise
            say(str(wrong))
            continue
        if ask_secret(f"{prompt}, once more") == chosen:
            return chosen
        if last:
            raise BadUsage(
                "The passphrase was not typed twice alike; run the command again.", code="passphrases-differ"
            )
        say("The two differ; once more from the beginning.")


class Progress(Protocol):
    """What a long piece of work tells about itself."""

    def advance(self, count: int) -> None:
        """So many bytes more are done."""


@contextmanager
def progress(title: str, total: int) -> Iterator[Progress]:
    """Bytes, rate and time left while a terminal watches; otherwise a line for every tenth. `total` in bytes."""
    if not sys.stderr.isatty():
        yield _Lines(title, total)
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True)) as shown:
        yield _Bar(shown, shown.add_task(clean(title), total=total))


def size(count: int) -> str:
    """Bytes as people read them: `812 B`, `2.1 GB`."""
    if count < 1000:
        return f"{count} B"
    amount = count / 1000
    for unit in ("kB", "MB", "GB"):
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def number(count: int) -> str:
    """A count with thin gaps: `1 274`."""
    return f"{count:,}".replace(",", " ")


def count(number_of: int, what: str) -> str:
    """`1 file`, `1 274 files`."""
    return f"{number(number_of)} {what}{'' if number_of == 1 else 's'}"


def local(ms: int, *, seconds: bool = False) -> str:
    """An instant in this computer's zone and in UTC: `2026-11-24 14:03 CET (13:03 UTC)`."""
    clock = "%H:%M:%S" if seconds else "%H:%M"
    there = utc(ms)
    here = there.astimezone()
    if here.utcoffset() == there.utcoffset():
        return f"{there:%Y-%m-%d {clock}} UTC"
    far = there.strftime(clock if here.date() == there.date() else f"%Y-%m-%d {clock}")
    return f"{here:%Y-%m-%d {clock} %Z} ({far} UTC)"


def ahead(ms: int, now: int) -> str:
    """An instant to come, and how long that is from `now`: `2026-11-24 14:03 CET (13:03 UTC), in 1d11h`."""
    left = max(0, ms - now)
    return f"{local(ms, seconds=left < _NEAR)}, " + (f"in {length(left)}" if left >= SECOND else "now")


def length(ms: int) -> str:
    """A duration by its two leading units, longer than it is by less than a minute: `1d11h`, `20s`.

    Rounded down but for that minute, without which three days that began a moment ago would read `2d23h`.
    """
    if ms >= _NEAR:
        ms = (ms + (MINUTE - 1 if ms >= 2 * DAY else MINUTE // 2)) // MINUTE * MINUTE
    unit = next((small for big, small in _ROUGH if ms >= big), SECOND)
    return write_duration(ms // unit * unit)


def day(ms: int) -> str:
    """The day of an instant, in UTC: `2026-11-24`."""
    return f"{utc(ms):%Y-%m-%d}"


def utc(ms: int) -> datetime:
    """An instant as one that can be shown: whoever signs or says something may claim any."""
    return datetime.fromtimestamp(min(max(ms, 0), _LATEST) / 1000, UTC)


class _Bar:
    def __init__(self, shown: object, task: object) -> None:
        self._shown, self._task = shown, task

    def advance(self, count: int) -> None:
        self._shown.advance(self._task, count)  # type: ignore[attr-defined]  # rich's types would import rich


class _Lines:
    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done, self._told = title, total, 0, 0
        self._lines = min(total // _WORTH_A_LINE, 10)

    def advance(self, count: int) -> None:
        self._done += count
        due = self._done * self._lines // max(self._total, 1)
        if due > self._told:
            self._told = due
            percent = self._done * 100 // self._total
            say(f"{self._title}: {size(self._done)} of {size(self._total)} ({percent} %)")


def name(path: str) -> str:
    """A file's name on one line: a line end in it is spelled out like everything else that could deceive."""
    return clean(path).replace("\n", _spelled(0x0A)).replace("\t", _spelled(0x09))


def fold(text: str, columns: int) -> str:
    """Lines broken between words where a terminal would break them inside of one; addresses stay whole."""
    return "\n".join(_folded(line, columns) for line in text.split("\n"))


def _folded(line: str, columns: int) -> str:
    if len(line) <= columns:
        return line
    import textwrap

    # What follows goes under the words, not under the name in front of them.
    began = _BEGINNING.match(line)
    margin = len(began[0]) if began is not None and len(began[0]) <= columns // 2 else 0
    rest = line[margin:]
    folded = textwrap.wrap(rest, columns - margin, break_long_words=False, break_on_hyphens=False)
    return line[:margin] + f"\n{' ' * margin}".join(folded)


def _print(text: str, stream: TextIO) -> None:
    text = clean(text)
    if stream.isatty():
        text = fold(text, shutil.get_terminal_size().columns)
    stream.write(text + "\n")
    stream.flush()


def _ask(prompt: str, read: Callable[[str], str]) -> str:
    # What was said before must stand above the question, even when both streams go to one file.
    sys.stdout.flush()
    return read(f"{clean(prompt)}: ")


def _read_line(prompt: str) -> str:
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not interactive():
        sys.stderr.write("\n")
    if not line:
        raise BadUsage(
            "The command asked something and nobody answered; run it at a terminal, or give the answers "
            "line by line on standard input.",
            code="no-answer",
        )
    return line.rstrip("\r\n")


def _read_unseen(prompt: str) -> str:
    try:
        return getpass.getpass(prompt, stream=sys.stderr)
    except EOFError:
        raise BadUsage("Nothing was typed; run the command again.", code="no-answer") from None


def _first_line(file: Path) -> str:
    try:
        if file.stat().st_mode & 0o077:
            warn(f"{file} can be read by other users of this computer; run: chmod 600 {file}")
        found = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else "not UTF-8"
        raise BadUsage(
            f"The passphrase file {file} cannot be read ({why}).", code="bad-passphrase-file"
        ) from None
    if not found:
        raise BadUsage(f"The first line of {file} is empty.", code="bad-passphrase-file")
    return found


def _check_passphrase(chosen: str) -> None:
    if len(chosen) < SHORTEST_PASSPHRASE:
        raise Refused(
            f"A passphrase needs at least {SHORTEST_PASSPHRASE} characters; five or six random words are good.",
            code="passphrase-too-short",
        )
    if len(chosen) < COMFORTABLE_PASSPHRASE:
        warn(
            "this passphrase is short; whoever takes the computer can try many. Five random words are better."
        )


def _spelled(code: int) -> str:
    return f"\\u{code:04x}"  # the spelling that JSON knows too
