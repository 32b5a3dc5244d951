"""Several processes of one test that begin at the same moment.

Rule of this room: a database is closed before anybody forks, and a child that fails fails the test with its own words.
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_FORK = multiprocessing.get_context("fork")
PATIENCE = 900.0


def together(many: int, each: Callable[[int, Callable[[], None]], T]) -> list[T]:
    """`each(number, ready)` in `many` processes; they open what they need, call `ready()`, and go on when all have."""
    barrier = _FORK.Barrier(many)
    children = []
    for number in range(many):
        here, there = _FORK.Pipe(duplex=False)
        child = _FORK.Process(target=_live, args=(each, number, barrier, there))
        child.start()
        there.close()
        children.append((child, here))
    answers: list[Any] = []  # Any: whatever the children answer
    for _, here in children:
        try:
            answers.append(here.recv() if here.poll(PATIENCE) else (False, "did not answer"))
        except EOFError:
            answers.append((False, "ended without a word"))
        finally:
            here.close()
    for child, _ in children:
        child.join(10)
        if child.is_alive():
            child.kill()
            child.join()
    failed = [str(said) for well, said in answers if not well]
    assert not failed, "\n".join(failed)
    return [said for _, said in answers]


def beside(live: Callable[[Any], None]) -> tuple[Any, Any]:  # Any: multiprocessing does not name these types
    """One process that talks with this one over a pipe until the pipe closes: (process, our end)."""
    here, there = _FORK.Pipe()
    child = _FORK.Process(target=_talk, args=(live, there, here))
    child.start()
    there.close()
    return child, here


def once_for_all(many: int) -> Callable[[], None]:
    """A gate for `many` processes still to be forked: at its first call each waits for all, afterwards nobody does."""
    barrier = _FORK.Barrier(many)
    passed: list[bool] = []

    def gate() -> None:
        if not passed:
            passed.append(True)
            barrier.wait(PATIENCE)

    return gate


def _live(each: Callable[[int, Callable[[], None]], Any], number: int, barrier: Any, answer: Any) -> None:
    try:
        answer.send((True, each(number, lambda: barrier.wait(PATIENCE) and None)))
    except BaseException:
        barrier.abort()
        answer.send((False, traceback.format_exc()))
    finally:
        answer.close()
        # Nothing that was inherited is tidied up here: it is the parent's.
        os._exit(0)


def _talk(live: Callable[[Any], None], pipe: Any, other: Any) -> None:
    other.close()
    try:
        live(pipe)
    except EOFError:
        pass
    except BaseException:
        pipe.send(traceback.format_exc())
    finally:
        os._exit(0)
