"""Casts that stories share: each is prepared once and copied, so that a story costs what happens in it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from theatre import Cast, Frozen

pytest_plugins = ["tests.fire.sittings", "tests.fire.tally"]


@pytest.fixture(scope="session")
def joined(tmp_path_factory: pytest.TempPathFactory) -> "Frozen":
    """A journalist and four colleagues who joined, confirmed addresses and compared cards. No dossier."""
    import theatre
    from line import Line
    from rehearsal import COLLEAGUES, JOURNALIST, NEWCOMER

    with theatre.cast(tmp_path_factory.mktemp("joined"), line=Line()) as cast:
        cast.newsroom(JOURNALIST, [*COLLEAGUES, NEWCOMER], quickly=True)
        return cast.freeze()


@pytest.fixture(scope="session")
def prepared(joined: "Frozen", tmp_path_factory: pytest.TempPathFactory) -> "Frozen":
    """Besides: a dossier, 2 of 3, with a brief, a first push, and every share proved; not armed."""
    from rehearsal import CALM, COLLEAGUES, JOURNALIST, TITLE, invent

    with joined.thaw(tmp_path_factory.mktemp("prepared") / "cast") as cast:
        ana = cast[JOURNALIST]
        names = [word for name in COLLEAGUES for word in ("--collaborator", name)]
        ana.type("dossier", "create", TITLE, *names, "--threshold", "2", *CALM)
        page = cast.folder / "page.txt"
        page.write_text("Call the lawyer Okonjo-Tamarind first.\n")
        ana.type("brief", TITLE, str(page))
        work = cast.folder / "work" / "numbat"
        invent(work)
        ana.type("push", TITLE, str(work), "--note", "begin with the pangolin ledger")
        for name in COLLEAGUES:
            cast[name].type("drill")
        return cast.freeze()


@pytest.fixture(scope="session")
def released(prepared: "Frozen", tmp_path_factory: pytest.TempPathFactory) -> "Frozen":
    """After the silence: three bundles, of which the last began afresh, and nobody has given a share yet."""
    from rehearsal import COLLEAGUES, JOURNALIST, TITLE, fall_silent, work_on

    with prepared.thaw(tmp_path_factory.mktemp("released") / "cast") as cast:
        ana, work = cast[JOURNALIST], cast.folder / "work"
        (work / "numbat" / "pangolin ledger.csv").write_bytes(b"crane;harbour;901\n" * 5_000)
        ana.type("push", TITLE, str(work / "numbat"), str(work_on(work)), "--note", "the film is new")
        (work / "tapir").mkdir()
        (work / "tapir" / "fossa list.txt").write_text("begun afresh\n")
        ana.type("push", TITLE, str(work / "tapir"), "--replace")
        ana.type("arm", TITLE)
        ana.type("checkin")
        fall_silent(ana)
        for name in COLLEAGUES:
            cast.mail.saying(cast[name].address, "can now be opened")
        return cast.freeze()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> "Callable[..., Any]":
    """`with stage(prepared) as cast:` a copy of a frozen cast, alive."""

    def begin(frozen: "Frozen", **options: Any) -> "contextlib.AbstractContextManager[Cast]":
        return frozen.thaw(tmp_path_factory.mktemp("stage") / "cast", **options)

    return begin


@pytest.fixture(scope="module")
def newsroom(prepared: "Frozen", stage: "Callable[..., Any]") -> "Iterator[Cast]":
    """One prepared cast for all stories of a file that do not end its switch."""
    with stage(prepared) as cast:
        yield cast
