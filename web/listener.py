"""The socket a server listens on.

Rule of this room: it is made once, by whoever starts first, and handed on; while a web process is started anew,
whoever knocks waits in the queue instead of being turned away.
"""

import socket
from typing import Final

from vault.errors import BadUsage

_BACKLOG: Final = 2_048
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # read, not bound


def listen(bind: str, port: int) -> socket.socket:
    """A listening socket; port 0 lets the system choose. `BadUsage` says what stands in the way."""
    try:
        family, _, _, _, address = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, OverflowError, UnicodeError) as wrong:
        raise BadUsage(f"{bind!r} is no address to listen on ({wrong}).", code="bad-bind") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as wrong:
        listener.close()
        raise BadUsage(
            f"{bind} port {port} cannot be listened on ({wrong}); "
            "choose another with --port, or stop what listens there.",
            code="port-taken",
        ) from None
    return listener


def take_over(number: int) -> socket.socket:
    """The listening socket that our parent made, by its file descriptor."""
    try:
        return socket.socket(fileno=number)
    except OSError:
        raise BadUsage(f"There is no listening socket at descriptor {number}.", code="bad-bind") from None


def address_of(listener: socket.socket) -> str:
    """How this computer itself reaches what listens there."""
    host, port = listener.getsockname()[:2]
    host = _ANYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
