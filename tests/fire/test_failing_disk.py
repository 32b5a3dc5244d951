"""A real server whose disk fails while it runs: all of it stops, says why, and starts again on a sound disk."""

import errno
import re
from pathlib import Path

from theatre import Mailroom, Server, until

from tests.fire import shim, tally

SYNCS = 1 << shim.Op.FSYNC | 1 << shim.Op.FDATASYNC


def test_the_first_sync_that_fails_ends_the_whole_server_and_the_next_start_is_sound(tmp_path: Path) -> None:
    mail = Mailroom()
    server = Server(tmp_path / "server", mail)
    try:
        server.start()
        assert server.stop() == 0
        failing = shim.environment(
            folder=server.folder.resolve(), mode="error", at=30, errno=errno.EIO, every=-1, only=SYNCS
        )
        server.environment = {name: value for name, value in failing.items() if re.match("SHIM|LD_", name)}
        server.start()
        process = server.process
        assert process is not None
        until(lambda: process.poll() is not None, "the server to stop by itself")
        assert process.returncode == 74
        # The ear may still be reading what it said last.
        until(lambda: any("met a disk that fails" in line for line in list(server.lines)), "the reason")
        assert not server.parts()
        server.environment = {}
        server.start()
        assert server.operator("operator", "accounts").code == 0
        tally.count("failed disks")
    finally:
        server.stop()
        mail.close()
