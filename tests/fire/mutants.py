"""Mistakes that the sweep must find, each as somebody might make it.

Rule of this room: a mistake is planted from outside into the parts as they are, for as long as the `with` lasts.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final
from unittest import mock

from vault import deposit, outbox, release, rounds, watch
from vault.storage import disk
from vault.storage.records import Records
from vault.storage.sqlite import SqliteDatabase


@contextlib.contextmanager
def _release_split_over_two_transactions() -> Iterator[None]:
    waiting: list[Any] = []  # Any: what let_go takes
    real, tick = release.let_go, watch.Watch.tick

    def later(records: Any, custodian: Any, now: Any, *rest: Any) -> None:  # Any: as let_go
        waiting.append((custodian, rest))

    def ticked(self: Any) -> Any:  # Any: as tick
        done = tick(self)
        while waiting:
            custodian, rest = waiting.pop()
            with self._records.transaction() as now:
                real(self._records, custodian, now, *rest)
        return done

    with mock.patch.object(release, "let_go", later), mock.patch.object(watch.Watch, "tick", ticked):
        yield


@contextlib.contextmanager
def _letter_marked_sent_before_sending() -> Iterator[None]:
    real = outbox.deliver

    class Hasty:
        def __init__(self, records: Records, courier: Any, letter: Any) -> None:  # Any: as deliver takes them
            self.records, self.courier, self.letter = records, courier, letter

        def carry(self, parcel: Any) -> Any:  # Any: as a courier
            with self.records.transaction() as now:
                self.records.settle_letter(self.letter.id, "accepted", now.lived)
            return self.courier.carry(parcel)

    def hasty(
        records: Any, custodian: Any, courier: Any, sender: Any, letter: Any, *rest: Any
    ) -> Any:  # Any: as deliver
        return real(records, custodian, Hasty(records, courier, letter), sender, letter, *rest)

    with mock.patch.object(outbox, "deliver", hasty), mock.patch.object(rounds.outbox, "deliver", hasty):
        yield


@contextlib.contextmanager
def _object_row_before_object() -> Iterator[None]:
    class Everything:
        def has(self, key: str) -> bool:
            return True

    def hasty(
        records: Any,
        objects: Any,
        account: Any,
        dossier: str,
        name: str,
        offset: int,
        body: Any,
        low_water: int,
    ) -> bool:  # Any: as receive
        with records.reading():
            if records.has_object(dossier, name):
                return False
        deposit._keep(records, Everything(), account, dossier, name)  # type: ignore[arg-type]  # as little as it asks for
        objects.receive(f"{dossier}/{name}", offset, body, deposit.OBJECT_SIZE)
        return True

    with mock.patch.object(deposit, "receive", hasty):
        yield


@contextlib.contextmanager
def _check_in_answered_before_it_is_saved() -> Iterator[None]:
    real, close = watch.check_in, SqliteDatabase.close
    later: list[Callable[[], object]] = []

    class Unsaved(Exception):
        """Rolls back."""

    def save() -> None:
        while later:
            later.pop(0)()

    def hasty(records: Any, custodian: Any, request: Any) -> Any:  # Any: as check_in
        save()
        transaction = Records.transaction

        @contextlib.contextmanager
        def unsaved(self: Any) -> Iterator[Any]:  # Any: as transaction
            with contextlib.suppress(Unsaved), transaction(self) as now:
                yield now
                raise Unsaved

        with mock.patch.object(Records, "transaction", unsaved):
            answer = real(records, custodian, request)
        later.append(lambda: real(records, custodian, request))
        return answer

    def closed(self: SqliteDatabase) -> None:
        save()
        close(self)

    with mock.patch.object(watch, "check_in", hasty), mock.patch.object(SqliteDatabase, "close", closed):
        yield


@contextlib.contextmanager
def _goes_on_after_a_failed_write() -> Iterator[None]:
    with mock.patch.object(disk.Disk, "fail", side_effect=disk._failure):
        yield


MUTANTS: Final[dict[str, tuple[Callable[[], Any], str]]] = {  # Any: context managers
    "release split over two transactions": (_release_split_over_two_transactions, "release"),
    "letter marked sent before sending": (_letter_marked_sent_before_sending, "letters"),
    "object row before object": (_object_row_before_object, "upload-whole"),
    "check-in answered before it is saved": (_check_in_answered_before_it_is_saved, "check-in"),
}
"""Each with the workflow that shows it."""


PLANTED: Final[dict[str, Callable[[], Any]]] = {  # Any: context managers
    **{name: plant for name, (plant, _) in MUTANTS.items()},
    "goes on after a failed write": _goes_on_after_a_failed_write,
}


@contextlib.contextmanager
def planted(name: str | None) -> Iterator[None]:
    if name is None:
        yield
        return
    with PLANTED[name]():
        yield
