"""A headless Chromium, driven over a pipe, that presses everything there is to press.

Rule of this room: nothing of it knows what is being tested. It needs Debian's `chromium` and no library.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

CHROMIUM: Final = shutil.which("chromium")
PATIENCE: Final = 60.0
_BREATH: Final = 0.06
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--mute-audio",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-default-browser-check",
    "--remote-debugging-pipe",
    "--password-store=basic",
    "--proxy-server=direct://",
)
_PRESSABLE: Final = (
    "a, area, button, input, select, summary, label, form, [onclick], [role], [tabindex], [formaction]"
)
_COUNT: Final = f"document.querySelectorAll({_PRESSABLE!r}).length"
_PRESS: Final = """
(number => {
  const one = document.querySelectorAll(%r)[number];
  if (!one) return false;
  if (one.tagName === 'A') one.removeAttribute('target');
  if (one.tagName === 'FORM') {
    for (const field of one.elements) {
      if (['checkbox', 'radio'].includes(field.type)) field.checked = true;
      else if (field.type !== 'hidden' && 'value' in field && !field.value) field.value = 'yes';
    }
    one.submit();
    return true;
  }
  one.click();
  return true;
})(%d)
"""


class Gone(AssertionError):
    """The browser does not answer any more."""


class Browser:
    """One process; `with Browser(folder) as browser`."""

    def __init__(self, folder: Path, *, scripts: bool = True) -> None:
        assert CHROMIUM is not None
        self._scripts = scripts
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out} {theirs_in}<&- {theirs_out}>&-'
        environment = {
            **os.environ,
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "XDG_CACHE_HOME": str(folder),
        }
        self._process = subprocess.Popen(
            ["bash", "-c", shell, CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        self._heard = b""
        self._number = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=2_000)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Gone, OSError):
            self.call("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, session: str | None = None, /, **params: Any) -> dict[str, Any]:
        """The answer; an error of the page's is an answer too."""
        number = self._send(method, session, params)
        for message in self._messages(PATIENCE):
            if message.get("id") == number:
                found: dict[str, Any] = message.get("result", message)
                return found
            self._events.append(message)
        raise Gone(method)

    def tab(self) -> str:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = str(self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        self.call("Page.enable", session)
        self.call("Page.setDownloadBehavior", session, behavior="deny")
        if not self._scripts:
            self.call("Emulation.setScriptExecutionDisabled", session, value=True)
        return session

    def open(self, session: str, url: str) -> None:
        self._events.clear()
        answer = self.call("Page.navigate", session, url=url)
        if "errorText" not in answer and answer.get("loaderId"):
            self._loaded(session)

    def open_all(self, sessions: Sequence[str], url: str) -> None:
        """In all tabs at once."""
        self._events.clear()
        for each in sessions:
            self._send("Page.navigate", each, {"url": url})
        for each in sessions:
            self._loaded(each)

    def press_everything(self, session: str, url: str) -> int:
        """Each thing that can be pressed, on a fresh page each time."""
        self.open(session, url)
        many = int(self._evaluate(session, _COUNT) or 0)
        for number in range(many):
            if number:
                self.open(session, url)
            self._events.clear()
            self._evaluate(session, _PRESS % (_PRESSABLE, number))
            # Whatever it began goes on its way before the next page is opened.
            self._listen(_BREATH)
            if self._said("Page.frameStartedLoading", session) or self._said(
                "Page.frameRequestedNavigation", session
            ):
                self._loaded(session, 3)
        return many

    def _listen(self, seconds: float) -> None:
        for message in self._messages(seconds):
            self._events.append(message)

    def _evaluate(self, session: str, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", session, expression=expression, userGesture=True)
        return answer.get("result", {}).get("value")

    def _said(self, event: str, session: str) -> bool:
        return any(each.get("method") == event and each.get("sessionId") == session for each in self._events)

    def _loaded(self, session: str, patience: float = 10) -> None:
        end = time.monotonic() + patience
        while not self._said("Page.frameStoppedLoading", session) and time.monotonic() < end:
            for message in self._messages(end - time.monotonic()):
                self._events.append(message)
                break

    def _send(self, method: str, session: str | None, params: dict[str, Any]) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        try:
            os.write(self._out, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise Gone(method) from None
        return self._number

    def _messages(self, patience: float) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + patience
        while True:
            while b"\0" in self._heard:
                one, _, self._heard = self._heard.partition(b"\0")
                yield json.loads(one)
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return
            piece = os.read(self._in, 1 << 16)
            if not piece:
                raise Gone("the pipe was closed")
            self._heard += piece
