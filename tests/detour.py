"""What stands between a server and its own door: a real SOCKS5 proxy, small, as Tor is one, and a front that drips.

Rule of this room: the proxy carries bytes, resolves the names that it is told to, and remembers what it was asked.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_TIMEOUT = 20.0


@dataclass
class Socks:
    """`names` sends what was asked for by name to a port of this computer; every other name is unknown."""

    names: Mapping[str, int] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    url: str = ""


@contextmanager
def a_proxy(names: Mapping[str, int] | None = None) -> Iterator[Socks]:
    proxy = Socks(dict(names or {}))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    proxy.url = f"socks5h://127.0.0.1:{listener.getsockname()[1]}"
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                peer, _ = listener.accept()
                threads.append(threading.Thread(target=_serve, args=(proxy, peer)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield proxy
    finally:
        stop.set()
        acceptor.join()
        for thread in threads:
            thread.join()
        listener.close()


def _serve(proxy: Socks, peer: socket.socket) -> None:
    peer.settimeout(_TIMEOUT)
    with peer, suppress(OSError):
        _exactly(peer, _exactly(peer, 2)[1])
        peer.sendall(b"\x05\x00")
        kind = _exactly(peer, 4)[3]
        if kind == 1:
            host = socket.inet_ntoa(_exactly(peer, 4))
        else:
            host = _exactly(peer, _exactly(peer, 1)[0]).decode()
        port = int.from_bytes(_exactly(peer, 2), "big")
        proxy.asked.append((host, port))
        known = host == "127.0.0.1" or host in proxy.names
        try:
            if not known:
                raise OSError
            there = socket.create_connection(("127.0.0.1", proxy.names.get(host, port)), _TIMEOUT)
        except OSError:
            peer.sendall(b"\x05\x04\x00\x01" + bytes(6))
            return
        with there:
            peer.sendall(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=_carry, args=(there, peer))
            back.start()
            _carry(peer, there)
            back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = peer.recv(size - len(data))
        if not more:
            raise OSError("the other side is gone")
        data += more
    return data


@contextmanager
def a_dripping_front(at_once: bytes, dripped: bytes) -> Iterator[str]:
    """Each byte comes long before any timeout, and all of them long after."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        with suppress(OSError):
            while True:
                line, _ = listener.accept()
                with line, suppress(OSError):
                    line.recv(65_536)
                    line.sendall(at_once)
                    for byte in dripped:
                        if stop.wait(0.01):
                            return
                        line.sendall(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
