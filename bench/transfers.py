"""Deposit and recovery: how fast, how much is sent, how much memory.

Rule of this room: the whole command is timed, from its start to its last line, with a keyring that opens at once; only
the cost of the passphrase, a second on purpose, is left out.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import theatre
from theatre import Cast, Person

from bench import material, meter
from bench.meter import Figure, Ran

LADDER = ("--every", "3s", "--remind", "1s", "--warn", "1s", "--grace", "1s", "--cooling", "2s")
KINDS = {"incompressible": material.noise, "text": material.prose}


def newsroom(cast: Cast) -> tuple[Person, Person, Person]:
    """A journalist and two colleagues, both of whom are needed; nobody gets mail, so nothing waits for any."""
    assert cast.server.invite is not None
    ana = cast.person("Ana")
    ana.join(cast.server.invite)
    ana.quicken()
    colleagues = []
    for name in ("Bruno", "Chiara"):
        who = cast.person(name)
        who.join(cast.invite(ana, name))
        who.quicken()
        ana.compare(who)
        colleagues.append(who)
    return ana, colleagues[0], colleagues[1]


def create(ana: Person, title: str) -> None:
    names = ("--collaborator", "Bruno", "--collaborator", "Chiara")
    ana.type("dossier", "create", title, *names, "--threshold", "2", *LADDER)


def push(ana: Person, title: str, path: Path) -> Ran:
    return meter.run([*theatre.AFTERWORD, "push", title, str(path), "--json"], ana.environment)


def release(ana: Person, other: Person, title: str) -> None:
    """Armed, silent, released; and one of the two shares is given."""
    ana.type("arm", title, "--anyway")
    theatre.until(
        lambda: other.type("give", title, "--yes", code=None).code == 0, f"the release of {title}", 60
    )


def recover(who: Person, title: str, target: Path) -> Ran:
    ran = meter.run(
        [*theatre.AFTERWORD, "recover", title, "--to", str(target), "--yes", "--json"], who.environment
    )
    if not json.loads(ran.out)["complete"]:
        raise meter.Broke(f"{title} is not complete")
    return ran


def speed(folder: Path, size: int, times: int) -> Iterator[Figure]:
    """Push and recover over loopback, beside tools that do part of the same work on the same bytes."""
    with theatre.cast(folder) as cast:
        ana, bruno, chiara = newsroom(cast)
        for kind, make in KINDS.items():
            source = folder / "desk" / kind
            make(source / "one.bin", size // 2)
            make(source / "two.bin", size - size // 2)
            assert cast.server.process is not None
            yield from _push_speed(ana, cast.server.process.pid, folder, source, kind, size, times)
            title = f"{kind} {times - 1}"
            release(ana, chiara, title)
            yield from _recover_speed(bruno, folder, kind, title, size, times)
            shutil.rmtree(source)


def _push_speed(
    ana: Person, server: int, folder: Path, source: Path, kind: str, size: int, times: int
) -> Iterator[Figure]:
    ran, sent = [], 0
    before = meter.spent_so_far(server)
    copied, packed = [], []
    for number in range(times):
        create(ana, f"{kind} {number}")
        ran.append(push(ana, f"{kind} {number}", source))
        sent = json.loads(ran[-1].out)["sent"]
        copied.append(_copy_and_sum(source, folder / "peer").seconds)
        packed.append(_pack(source, folder / "peer.enc").seconds)
    seconds = [each.seconds for each in ran]
    theirs = (meter.spent_so_far(server) - before) / times
    yield Figure(
        f"push, {meter.megabytes(size)} {kind}",
        meter.rate(size, seconds),
        f"sent {sent / size:.2f} of the size; of the processor, for each GB: "
        f"{_for_each_gb(ran, size)} s here, {theirs * 1e9 / size:.1f} s on the server",
    )
    yield _peer("cp, then sha256sum", size, copied, seconds)
    yield _peer("tar, zstd -3 -T2, openssl chacha20, to a file", size, packed, seconds)


def _recover_speed(
    who: Person, folder: Path, kind: str, title: str, size: int, times: int
) -> Iterator[Figure]:
    ran, unpacked = [], []
    for _ in range(times):
        ran.append(recover(who, title, folder / "out"))
        shutil.rmtree(folder / "out")
        unpacked.append(_unpack(folder / "peer.enc", folder / "unpacked").seconds)
    (folder / "peer.enc").unlink()
    seconds = [each.seconds for each in ran]
    yield Figure(
        f"recover, {meter.megabytes(size)} {kind}",
        meter.rate(size, seconds),
        f"of the processor, for each GB: {_for_each_gb(ran, size)} s here",
    )
    yield _peer("openssl chacha20, zstd -d, tar, sha256sum", size, unpacked, seconds)


def _for_each_gb(ran: list[Ran], size: int) -> str:
    return f"{meter.middle([each.cpu for each in ran]) * 1e9 / size:.1f}"


def _peer(name: str, size: int, theirs: list[float], ours: list[float]) -> Figure:
    ratio = meter.middle(ours) / meter.middle(theirs)
    return Figure(f"    beside it: {name}", meter.rate(size, theirs), f"ours takes {ratio:.1f} times as long")


def _copy_and_sum(source: Path, target: Path) -> Ran:
    ran = _shell('cp -r "$1" "$2" && cd "$2" && sha256sum *', source, target)
    shutil.rmtree(target)
    return ran


def _pack(source: Path, target: Path) -> Ran:
    return _shell(
        'tar -C "$1" -c . | zstd -q -3 -T2 | openssl enc -chacha20 -pass pass:x -pbkdf2 -iter 1 > "$2"',
        source,
        target,
    )


def _unpack(source: Path, target: Path) -> Ran:
    target.mkdir()
    ran = _shell(
        'openssl enc -d -chacha20 -pass pass:x -pbkdf2 -iter 1 < "$1" | zstd -q -d | tar -C "$2" -x && '
        'cd "$2" && sha256sum *',
        source,
        target,
    )
    shutil.rmtree(target)
    return ran


def _shell(script: str, *words: Path) -> Ran:
    return meter.run(["bash", "-o", "pipefail", "-c", script, "bench", *map(str, words)])


def increments(folder: Path, size: int, times: int) -> Iterator[Figure]:
    """What a second push sends."""
    with theatre.cast(folder) as cast:
        ana, _, _ = newsroom(cast)
        create(ana, "increments")
        file = material.noise(folder / "desk" / "film.mov", size)
        push(ana, "increments", file)
        again = meter.runs(times, lambda: push(ana, "increments", file))
        sent = {json.loads(each.out)["sent"] for each in again}
        yield Figure(
            f"push again, nothing changed, {meter.megabytes(size)}",
            f"{max(sent)} bytes of objects",
            f"in {meter.middle([each.seconds for each in again]):.2f} s",
        )
        seconds, sizes = [], []
        for number in range(times):
            _put_in_front(file, bytes([number]))
            ran = push(ana, "increments", file)
            seconds.append(ran.seconds)
            sizes.append(json.loads(ran.out)["sent"])
        yield Figure(
            f"push again, one byte inserted at the front, {meter.megabytes(size)}",
            f"{int(meter.middle(sizes))} bytes of objects",
            f"in {meter.middle(seconds):.2f} s; two objects are the least that is ever sent",
        )


def _put_in_front(file: Path, byte: bytes) -> None:
    longer = file.with_suffix(".longer")
    with longer.open("wb") as target, file.open("rb") as source:
        target.write(byte)
        shutil.copyfileobj(source, target, 1 << 20)
    longer.replace(file)


def memory(folder: Path, sizes: tuple[int, ...]) -> Iterator[Figure]:
    """A server of its own for each size, so that its highest is that size's."""
    for size in sizes:
        place = folder / str(size)
        with theatre.cast(place) as cast:
            ana, bruno, chiara = newsroom(cast)
            create(ana, "memory")
            file = material.noise(place / "desk" / "film.mov", size)
            pushed = push(ana, "memory", file)
            file.unlink()
            release(ana, chiara, "memory")
            recovered = recover(bruno, "memory", place / "out")
            assert cast.server.process is not None
            server = [meter.high_water(pid) for pid in meter.family(cast.server.process.pid)]
            yield Figure(
                f"peak memory at {meter.megabytes(size)}",
                f"push {meter.megabytes(pushed.peak)}, recover {meter.megabytes(recovered.peak)}, "
                f"server's largest process {meter.megabytes(max(server))}",
                f"its {len(server)} processes together {meter.megabytes(sum(server))}",
            )
        theatre.remove(place)
