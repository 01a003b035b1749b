"""Child processes, for tests that kill, limit or race a process.

A server imports KeyJAX once and forks a child for each test, which takes
milliseconds instead of the seconds of a new interpreter. It never starts JAX's
backend, so a fork copies no threads of JAX.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from typing import Any

from tests.conftest import ROOT


class _Output(threading.Thread):
  """Output of a child through a pipe; limits on files do not apply to it."""

  def __init__(self, path: pathlib.Path):
    super().__init__(daemon=True)
    os.mkfifo(path)
    self._path = path
    self._data = bytearray()
    self.start()

  def run(self) -> None:
    with self._path.open("rb", buffering=0) as pipe:
      while data := pipe.read(1 << 16):
        self._data += data

  def text(self) -> str:
    return self._data.decode()


class Child:
  """A forked child that runs code."""

  def __init__(self, server: "Server", code: str, args: list[str]):
    self._server = server
    folder = pathlib.Path(tempfile.mkdtemp(dir=server.scratch))
    self._out = _Output(folder / "out")
    self._err = _Output(folder / "err")
    self.pid = server.request(
      {"code": code, "args": args, "folder": str(folder)}
    )

  def wait(self) -> int:
    """Wait for the child and return its exit code; -9 for a kill."""
    code = self._server.request({"wait": self.pid})
    self._out.join()
    self._err.join()
    return code

  def out(self) -> str:
    """Return what it printed so far."""
    return self._out.text()

  def err(self) -> str:
    """Return the end of its errors so far."""
    return self._err.text()[-4000:]

  def wait_for(self, line: str, seconds: float = 60.0) -> None:
    """Wait until the child has printed a line."""
    end = time.monotonic() + seconds
    while line not in self.out().splitlines():
      assert time.monotonic() < end, self.err()
      time.sleep(0.001)


class Server:
  """A process that has imported KeyJAX and forks children."""

  def __init__(self) -> None:
    self._process = subprocess.Popen(
      [sys.executable, "-m", "tests.checkpoint.children"],
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self._folder = tempfile.TemporaryDirectory()
    self.scratch = self._folder.name

  def start(self, code: str, *args: Any) -> Child:
    """Run code in a child, with arguments in `sys.argv`."""
    return Child(self, code, [*map(str, args)])

  def request(self, request: dict[str, Any]) -> int:
    """Send a request to the server and return its answer."""
    assert self._process.stdin is not None and self._process.stdout is not None
    self._process.stdin.write(json.dumps(request) + "\n")
    self._process.stdin.flush()
    return int(self._process.stdout.readline())

  def close(self) -> None:
    """End the server."""
    self._process.communicate()
    self._folder.cleanup()


def _run(request: dict[str, Any]) -> int:
  """Run code in a forked child and return its exit code."""
  for name, fd in (("out", 1), ("err", 2)):
    pipe = os.open(f"{request['folder']}/{name}", os.O_WRONLY)
    os.dup2(pipe, fd)
    os.close(pipe)
  sys.argv = ["-c", *request["args"]]
  try:
    exec(compile(request["code"], "<child>", "exec"), {"__name__": "__main__"})
  except Exception:
    traceback.print_exc()
    return 1
  return 0


def _serve() -> None:
  import keyjax.checkpoint
  import keyjax.keyring

  assert keyjax.checkpoint.save and keyjax.keyring.Keyring
  for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
      status = os.waitpid(request["wait"], 0)[1]
      answer = os.waitstatus_to_exitcode(status)
    elif not (answer := os.fork()):
      sys.exit(_run(request))  # As a program ends: it joins its threads.
    print(answer, flush=True)


if __name__ == "__main__":
  _serve()
