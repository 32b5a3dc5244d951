"""The 24 words between paper and keyboard: shown once, asked back, typed in again.

Rule of this room: words are on the screen as briefly as may be, and never in a file, an argument or a message.
"""

import secrets
from typing import Final

from cli import terminal
from vault.errors import Malformed, Refused
from vault.identity import Language, RootSeed, fold

ASKED_BACK: Final = 3
_TRIES: Final = 3


def show_words(root: RootSeed, language: Language, address: str) -> None:
    """Once, on paper; three of them typed back."""
    words = root.words(language)
    width = max(map(len, words))
    terminal.say("\nThese 24 words ARE your identity. Write them on paper now; they are never shown again.\n")
    for row in range(6):
        numbered = (f"{place + 1:>4} {words[place]:<{width}}" for place in range(row, 24, 6))
        terminal.say("".join(numbered))
    terminal.say(f"\nWrite this address beside them; together they restore everything:\n    {address}\n")
    terminal.say(
        "Keep the paper away from this computer. Whoever holds it and reaches the server holds everything."
    )
    if terminal.interactive():
        terminal.ask("Press Enter when they are on paper")
        terminal.clear()
    for place in sorted(secrets.SystemRandom().sample(range(24), ASKED_BACK)):
        for left in reversed(range(_TRIES)):
            if fold(terminal.ask(f"Word {place + 1}")) == fold(words[place]):
                break
            if not left:
                raise Refused(
                    "That is not what was shown, so nothing was kept; run the command again for new words.",
                    code="words-not-written",
                )
            terminal.say("That is not the word; look at your paper.")


def ask_words() -> RootSeed:
    """Several words to a line or one; a slip is named by its place and may be typed again."""
    for left in reversed(range(_TRIES)):
        words: list[str] = []
        terminal.say("Type your 24 words, as many on a line as you like.")
        while len(words) < 24:
            line = terminal.ask(f"From word {len(words) + 1}")
            words += [each for each in line.split() if each.strip("0123456789.,;:()")]
        try:
            root = RootSeed.from_words(words)
        except Malformed as wrong:
            if not left:
                raise
            terminal.say(str(wrong))
        else:
            if terminal.interactive():
                terminal.clear()
            return root
    raise AssertionError
