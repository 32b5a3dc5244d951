"""Many who are slow and many who upload, at one door: `python -P tests/crowd.py URL TOKEN DOSSIER SLOW UPLOADS`.

Rule of this room: bounded in number and in time; it prints `ready` when everybody is there, and what became of the
uploads when its standard input is closed. It knows no secret but the token.
"""

import asyncio
import contextlib
import hashlib
import os
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from theatre import Person

SLOW, UPLOADS = 500, 200
SIZE = 1_048_576
LONGEST = 600.0  # seconds, whatever happens
TRIES = 80
MOST_EACH = 20


class Crowd:
    def __init__(self, url: str, token: str, dossier: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname in {"127.0.0.1", "::1"}, "only this computer"
        self.host, self.port = parts.hostname, parts.port or 80
        # Whoever crowds the door does not care who stands behind it.
        self.tls = ssl._create_unverified_context() if parts.scheme == "https" else None  # noqa: S323
        self.head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
        self.dossier = dossier
        self.over = asyncio.Event()
        self.answers: Counter[int] = Counter()
        self.there = 0
        self.brought = 0

    async def slow(self, number: int) -> None:
        """Somebody who never comes to the end of a request, and comes back whenever the door gives up on them."""
        starts = (
            b"",
            b"GET /api/v1/server HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            b"POST /api/v1/check-ins HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n{",
            b"PUT /api/v1/dossiers/00/objects/00 HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n",
        )
        first = True
        while not self.over.is_set():
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls)
                writer.write(starts[number % len(starts)])
                if first:
                    first = False
                    self.there += 1
                try:
                    while not self.over.is_set() and not reader.at_eof():
                        if number % len(starts):
                            writer.write(b"a")
                        await self._wait(1.0)
                finally:
                    writer.close()

    async def upload(self, number: int) -> None:
        """Two of three bring half an object and stand in the door with the rest; the third brings one after another."""
        if number % 3:
            await self._bring(patiently=True)
            return
        self.there += 1
        for _ in range(MOST_EACH):
            await self._bring(patiently=False)
            if self.over.is_set():
                break

    async def _bring(self, patiently: bool) -> None:
        """One object; asked again while the server is busy."""
        data = os.urandom(SIZE)
        name = hashlib.sha256(data).hexdigest()
        self.brought += 1
        for _ in range(TRIES):
            try:
                status = await self._put(name, data, patiently)
            except (OSError, asyncio.IncompleteReadError, ValueError, IndexError):
                status = 0
            patiently = False
            self.answers[status] += 1
            if status in (200, 201):
                return
            await asyncio.sleep(0.5)

    async def _put(self, name: str, data: bytes, patiently: bool) -> int:
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls)
        try:
            path = f"/api/v1/dossiers/{self.dossier}/objects/{name}"
            writer.write(
                f"PUT {path} HTTP/1.1\r\n{self.head}Content-Type: application/octet-stream\r\n"
                f"Content-Length: {SIZE}\r\nUpload-Offset: 0\r\nConnection: close\r\n\r\n".encode()
            )
            sent = SIZE // 2
            writer.write(data[:sent])
            await writer.drain()
            if patiently:
                self.there += 1
                while sent < SIZE and not self.over.is_set():
                    writer.write(data[sent : sent + 1])
                    sent += 1
                    await self._wait(1.0)
            writer.write(data[sent:])
            await writer.drain()
            line = await reader.readline()
            return int(line.split()[1])
        finally:
            writer.close()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)


async def main(url: str, token: str, dossier: str, slow: int, uploads: int) -> int:
    crowd = Crowd(url, token, dossier)
    standing = [asyncio.create_task(crowd.slow(number)) for number in range(slow)]
    sending = [asyncio.create_task(crowd.upload(number)) for number in range(uploads)]
    while crowd.there < slow + uploads:
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    crowd.over.set()
    await asyncio.gather(*standing, *sending)
    stored = crowd.answers[200] + crowd.answers[201]
    print(f"{stored} of {crowd.brought} stored; answers {dict(sorted(crowd.answers.items()))}", flush=True)
    return int(stored != crowd.brought)


@dataclass
class Crowded:
    """How the crowd ended: its exit code and last line."""

    code: int = -1
    said: str = ""


@contextmanager
def crowd(
    url: str, who: "Person", dossier: str, slow: int = SLOW, uploads: int = UPLOADS
) -> Iterator[Crowded]:
    """Inside of the block everybody is there; at its end the uploads come to their own."""
    from cli.home import Home
    from cli.remote import Remote

    with Home.open(who.home) as home, Remote(url, home.server) as remote:
        remote.sign_in(home.unlock(who.secret.read_text().splitlines()[0]))
        token = str(remote._connection.token)
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, url, token, dossier, str(slow), str(uploads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    done = Crowded()
    try:
        assert process.stdout.readline() == "ready\n", "the crowd did not come"
        yield done
        process.stdin.close()
        done.said = process.stdout.read().strip()
        done.code = process.wait(LONGEST)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def check_ins(url: str, who: "Person", many: int) -> list[float]:
    """Seconds that each took; every one of them answered and verified."""
    from cli.checkin import check_in
    from cli.home import Home
    from cli.remote import Remote

    lasted = []
    with Home.open(who.home) as home:
        keyring = home.unlock(who.secret.read_text().splitlines()[0])
        with Remote(url, home.server) as remote:
            for _ in range(many):
                began = time.perf_counter()
                check_in(home, keyring, remote)
                lasted.append(time.perf_counter() - began)
    return lasted


if __name__ == "__main__":
    url, token, dossier, slow, uploads = sys.argv[1:]
    sys.exit(asyncio.run(asyncio.wait_for(main(url, token, dossier, int(slow), int(uploads)), LONGEST)))
