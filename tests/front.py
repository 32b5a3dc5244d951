"""Debian's nginx in front of a server, with the configuration that is shipped.

Rule of this room: the shipped files are used as they are, but for what an installation has to write into them: the
places of files, the ports, and the name of the certificate.
"""

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "deploy" / "nginx"


@dataclass(frozen=True)
class Front:
    """`plain` is the port of the onion service's door, `tls` that of the public one, `certificate` what to trust."""

    plain: int
    tls: int
    certificate: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.plain}"

    @property
    def public(self) -> str:
        return f"https://127.0.0.1:{self.tls}"


@contextlib.contextmanager
def front(folder: Path, server_port: int) -> Iterator[Front]:
    """nginx before the server on `server_port`, until the end of the block."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with contextlib.ExitStack() as held:
        plain, tls, redirect = (held.enter_context(_port()) for _ in range(3))
        ports = tuple(each.getsockname()[1] for each in (plain, tls, redirect))
    door = Front(*ports[:2], folder / "cert.pem")
    _write(folder, door, ports[2], server_port)
    configuration = folder / "nginx.conf"
    process = subprocess.Popen(
        [nginx, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")],
        stdin=subprocess.DEVNULL,
    )
    try:
        _wait(process, door.plain)
        yield door
    finally:
        process.terminate()
        process.wait(30)


def _port() -> socket.socket:
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    return free


def _write(folder: Path, door: Front, redirect: int, server_port: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", "2",
         "-subj", "/CN=vault.example.org", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    for path in SHIPPED.glob("*.conf"):
        text = path.read_text()
        text = text.replace("snippets/", f"{folder}/").replace("/var/log/nginx/", f"{folder}/")
        text = re.sub(r"/etc/letsencrypt/\S+fullchain\.pem", f"{folder}/cert.pem", text)
        text = re.sub(r"/etc/letsencrypt/\S+privkey\.pem", f"{folder}/key.pem", text)
        text = re.sub(r"^\s*listen \[::\].*\n", "", text, flags=re.MULTILINE)
        text = text.replace("listen 80;", f"listen 127.0.0.1:{redirect};")
        text = text.replace("listen 443 ", f"listen 127.0.0.1:{door.tls} ")
        text = re.sub(r"\b8480\b", str(door.plain), text)
        text = re.sub(r"\b8470\b", str(server_port), text)
        (folder / path.name).write_text(text)
    (folder / "nginx.conf").write_text(
        f"""daemon off;
user root;
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
worker_rlimit_nofile 16384;
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/afterword.conf;
}}
"""
    )


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    from theatre import until

    def answers() -> bool:
        assert process.poll() is None, "nginx ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    until(answers, "nginx")
