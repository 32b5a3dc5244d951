"""What is said to people, and how a letter is laid out.  Described in docs/letters.md.

Rule of this room: a letter gives nothing away and does nothing. No title, no file name, no link; a subject and a
recognition phrase that the recipient chose; what to do next, what not to do, and dates with their zone. The words are
in letters_en and letters_es; here they become a letter. Nothing a journalist or a stranger wrote can hold one up.
"""

import re
import textwrap
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

from vault import letters_en, letters_es
from vault.errors import Malformed

LANGUAGES: Final = ("en", "es")
COLUMNS: Final = 78
LONGEST_LINE: Final = 60  # of a subject, a phrase or a label: fits one line, indented


class LetterKind(StrEnum):
    CODE = "code"
    CHECK_IN = "check-in"
    LAST_WARNING = "last-warning"
    LAST_CALL = "last-call"
    REACH_HER = "reach-her"
    REACH_HER_AGAIN = "reach-her-again"
    UNREACHED = "unreached"
    RELEASE = "release"
    RELEASED_HER = "released-her"
    ALL_CLEAR = "all-clear"
    CHANGE_ASKED = "change-asked"
    CHANGE_CANCELLED = "change-cancelled"
    CHANGE_DONE = "change-done"
    PAUSE_ENDED = "pause-ended"
    OPERATOR_UNREACHED = "operator-unreached"
    OPERATOR_TROUBLE = "operator-trouble"
    OPERATOR_CROWD = "operator-crowd"
    OPERATOR_CROWD_WAITS = "operator-crowd-waits"
    HELD = "held"
    HOLD_ASKED = "hold-asked"
    LEFT = "left"
    OUTAGE = "outage"
    OUTAGE_OVER = "outage-over"
    ADDRESS_FAILING = "address-failing"
    ADDRESS_WELL = "address-well"
    OPERATOR_NO_ADDRESS = "operator-no-address"
    TEST = "test"


class Trouble(StrEnum):
    """What the operator is told of, each in the operator's language; other troubles are told as they are written."""

    DOOR_SHUT = "door-shut"
    DOOR_SHUT_LONG = "door-shut-long"
    DOOR_OPEN = "door-open"
    CLOCK_JUMPED = "clock-jumped"


class Change(StrEnum):
    """A slow change: what cools in full view before it takes effect."""

    ROSTER = "roster"
    PLAN = "plan"
    DESTROY = "destroy"
    PAUSE = "pause"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a letter may say; a sentence whose fact is missing is left out. Instants are wall ms, projected.

    `hers`: the recipient is the journalist herself. `label`: what she calls herself on her card; only colleagues
    who are asked to reach her, or told that it is over, read it. `due`: when the next stage begins. `release`: the
    earliest release. `effect`: when a slow change takes effect. `account`, `trouble`, `many`: for the
    operator, to whom nobody is named. `by`: accounts of the colleagues that the letter is about, in a row; `colleague`:
    what they call themselves, in a letter. `because`: how they know. `until`: when a hold ends.
    """

    hers: bool = False
    label: str | None = None
    code: str | None = None
    due: int | None = None
    release: int | None = None
    change: Change | None = None
    effect: int | None = None
    host: str | None = None
    account: str | None = None
    trouble: str | None = None
    by: tuple[str, ...] = ()
    colleague: str | None = None
    because: str | None = None
    until: int | None = None
    many: int | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    subject: str
    body: str


# The code letter goes to an address that is not known to be theirs yet, so it must not carry the phrase.
WITHOUT_PHRASE: Final = frozenset({LetterKind.CODE})


class Words(Protocol):
    """What a language's module offers: texts by kind, those said differently to her or to the operator, dates."""

    @property
    def SUBJECT(self) -> str: ...
    @property
    def SOMEBODY(self) -> str: ...
    @property
    def COLLEAGUE(self) -> str: ...
    @property
    def BECAUSE(self) -> Mapping[str, str]: ...
    @property
    def CHANGES(self) -> Mapping[str, str]: ...
    @property
    def TROUBLES(self) -> Mapping[str, str]: ...
    @property
    def LETTERS(self) -> Mapping[str, str]: ...
    @property
    def HERS(self) -> Mapping[str, str]: ...
    @property
    def OPERATORS(self) -> Mapping[str, str]: ...
    @property
    def NEVER(self) -> str: ...
    @property
    def GENUINE(self) -> str: ...
    @property
    def NO_PHRASE(self) -> str: ...
    @property
    def TO_OPERATOR(self) -> str: ...

    def write_date(self, weekday: int, day: int, month: int, year: int) -> str:
        """A day in words; weekday 0 is Monday."""


_WORDS: Final[Mapping[str, Words]] = {"en": letters_en, "es": letters_es}
_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def write(kind: LetterKind, language: str, subject: str, phrase: str | None, facts: Facts) -> Letter:
    """The letter, in plain text of at most 78 columns. An empty `subject` means the language's own neutral one, an
    empty `phrase` that none was chosen; None is for an operator, who has nowhere to choose one.

    Raises Malformed only for a subject or phrase that `read_subject` and `read_phrase` would have refused.
    """
    # A language this version does not know must not hold up a letter that somebody waits for.
    words = _WORDS.get(language, letters_en)
    given = {
        "who": _fitted(facts.label) or words.SOMEBODY,
        "colleague": _fitted(facts.colleague) or words.COLLEAGUE,
        "because": None if facts.because is None else words.BECAUSE.get(facts.because),
        "until": _instant(words, facts.until),
        "many": None if facts.many is None else str(facts.many),
        "code": _fitted(facts.code),
        "due": _instant(words, facts.due),
        "release": _instant(words, facts.release),
        "effect": _instant(words, facts.effect),
        "change": None if facts.change is None else words.CHANGES[facts.change.value],
        "host": _fitted(facts.host),
        "account": _fitted(facts.account),
        "trouble": None
        if facts.trouble is None
        else _shown(words.TROUBLES.get(facts.trouble, facts.trouble)),
    }
    special: Mapping[str, str] = {}
    if facts.account is not None:
        special = words.OPERATORS
    elif facts.hers:
        special = words.HERS
    text = special.get(kind.value) or words.LETTERS[kind.value]
    parts = [*_paragraphs(text, given), *_paragraphs(words.NEVER, {})]
    if phrase is None:
        parts += _paragraphs(words.TO_OPERATOR, {})
    elif kind not in WITHOUT_PHRASE:
        parts += _paragraphs(words.GENUINE if phrase else words.NO_PHRASE, {"phrase": read_phrase(phrase)})
    return Letter(read_subject(subject) or words.SUBJECT, "\n\n".join(parts) + "\n")


def read_subject(text: str) -> str:
    """The subject itself, if it can stand in a mail header; empty means the neutral one."""
    return _one_line(text, "subject")


def read_phrase(text: str) -> str:
    """The recognition phrase itself, if it can stand on a line of its own; empty means none was chosen."""
    return _one_line(text, "recognition phrase")


def _one_line(text: str, name: str) -> str:
    if len(text) > LONGEST_LINE or text != text.strip() or any(_unshowable(letter) for letter in text):
        raise Malformed(
            f"The {name} is one line of at most {LONGEST_LINE} characters, without control characters and without "
            "spaces at its ends; choose another.",
            code="bad-line",
        )
    return text


def _unshowable(letter: str) -> bool:
    return unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp", "Cn", "Co"} or letter in _BIDI


def _fitted(text: str | None) -> str | None:
    if text is None:
        return None
    shown = _shown(text)
    return shown if len(shown) <= LONGEST_LINE else shown[: LONGEST_LINE - 1].rstrip() + "…"


def _shown(text: str) -> str:
    # The recipient did not choose this text, so it is made to fit rather than refused: the letter must go out.
    return " ".join("".join(" " if _unshowable(letter) else letter for letter in text).split())


def _instant(words: Words, ms: int | None) -> str | None:
    """Rounded down to the minute, so that nobody is told a later time than the real one."""
    if ms is None:
        return None
    try:
        when = datetime.fromtimestamp(ms // 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return None  # no calendar names it; the letter goes out without the sentence
    return f"{words.write_date(when.weekday(), when.day, when.month, when.year)}, {when:%H:%M} UTC"


def _paragraphs(text: str, given: Mapping[str, str | None]) -> list[str]:
    """`text` as paragraphs. `$` begins a command, `-` a point; what lacks one of its facts is left out."""
    paragraphs = []
    for template in text.strip().split("\n\n"):
        template = " ".join(template.split())
        names = re.findall(r"\{([a-z]+)\}", template)
        if any(given.get(name) is None for name in names):
            continue
        mark, rest = (template[0], template[2:]) if template[:2] in {"$ ", "- "} else ("", template)
        filled = re.sub(r"\{([a-z]+)\}", lambda found: given[found[1]] or "", rest)
        paragraphs.append(_laid_out(mark, filled))
    return paragraphs


def _laid_out(mark: str, text: str) -> str:
    if mark == "$":
        return "    " + text  # a command is never broken: it is copied from here
    whole = re.sub(r"`[^`]*`", lambda found: found[0].replace(" ", "\0"), text)
    return textwrap.fill(
        whole,
        width=COLUMNS - 4,
        initial_indent="- " if mark == "-" else "",
        subsequent_indent="  " if mark == "-" else "",
        break_on_hyphens=False,
    ).replace("\0", " ")
