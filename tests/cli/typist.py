"""Type on a terminal: `python -m tests.cli.typist CODE`, answers on stdin.

This is a separate program because it forks, which a process with threads must
not do. It runs Python code on a terminal, waits for each prompt, types its
answer, and prints everything that the terminal showed.
"""

import json
import os
import pty
import signal
import sys


def type_into(terminal, prompt, text):
  """Wait for a prompt and answer it; return what was shown."""
  shown = b""
  while not shown.endswith(prompt.encode()):
    shown += os.read(terminal, 1024)
  os.write(terminal, text.encode() + b"\n")
  return shown


def rest_of(terminal):
  """Return what is shown until the program ends."""
  shown = b""
  try:
    while data := os.read(terminal, 1024):
      shown += data
  except OSError:  # The terminal is closed.
    pass
  return shown


def main():
  """Run the code, type, and print."""
  answers = json.load(sys.stdin)
  # A program that a shell starts in the background ignores interrupts, and so
  # would its children.
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  child, terminal = pty.fork()
  if child == 0:
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
  shown = b"".join(type_into(terminal, *answer) for answer in answers)
  print((shown + rest_of(terminal)).decode())
  os.waitpid(child, 0)


if __name__ == "__main__":
  main()
