"""Banned words in the prose of this repository, each with the reason.

Run by `make lint` and on every commit: `python .ci/english.py [FILE ...]`. It
reads Python, Markdown, notebooks and the Makefile, and prints every hit as
`file:line: word: what to write`.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SKIPPED = {".ci/english.py", "tests/vectors/README.md"}
IGNORED = (".venv", ".cache", ".git", "runs", "build")

# Regular expressions, without regard to case, and what to write instead.
BANNED = {
  r"(?-i:he|she|his|hers|him)": "'they': the attacker, the user",
  r"mend(s|ed|ing)?": "archaic: 'fix' or 'repair'",
  r"anew": "archaic: 'again'",
  r"besides": "ambiguous: 'also', or 'except'",
  r"dwell(s|ed)?": "archaic: 'is', 'stays'",
  r"thereof|therein|whereof|wherein|hereby": "legal register: name the thing",
  r"laid|lays": "confused with 'lie': 'put', 'placed'",
  r"nothing but": "'only'",
  r"somebody": "name the person: 'the user', 'the attacker'",
  r"(a|the) thief": "one word for one role: 'the attacker'",
  r"and the like": "name the others, or 'such as'",
  # Translated idioms.
  r"tells? (whether|if)": "'Return whether ...'",
  r"a sentence that tells": "name the error or the message",
  r"what is said": "name the message",
  r"(comes?|came) back only": "say what restores it",
  r"(lies?|lay|lain) (in|on|at|beside|outside|there|next|under)": (
    "data is stored in a place, or is there; it does not lie there"
  ),
  r"stands? (in|on) (the|a|an|its) (config|file|log|line|page|table|docs?)": (
    "text is written there; it does not stand there"
  ),
  r"(gives?|gave) back": "'returns'",
  r"takes? back": "'undoes' or 'reverts'",
  r"(goes|went) on (from|with|where|until)": "'continues' or 'resumes'",
  r"errs|erred": "'fails', or 'is wrong'",
  r"flat (error|sentence|message)": (
    "give the reason: 'a deliberately uninformative error'"
  ),
  r"at a time of": "'while', or 'when'",
}
_PATTERNS = {
  re.compile(rf"\b(?:{word})\b", re.IGNORECASE): reason
  for word, reason in BANNED.items()
}


def hits(path: pathlib.Path) -> list[str]:
  """Return the banned words of a file as lines to print."""
  found = []
  for number, line in enumerate(path.read_text().splitlines(), 1):
    for pattern, reason in _PATTERNS.items():
      for match in pattern.finditer(line.replace("_", " ")):
        where = f"{path.relative_to(ROOT)}:{number}"
        found.append(f"{where}: {match.group()!r}: {reason}")
  return found


def files() -> list[pathlib.Path]:
  """Return the files of this checkout that hold prose."""
  tops = [p for p in ROOT.iterdir() if not p.name.startswith(IGNORED)]
  found = [ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("*.md")]
  for folder in (p for p in tops if p.is_dir()):
    for pattern in ("*.py", "*.md", "*.ipynb"):
      found += folder.rglob(pattern)
  return sorted(p for p in found if str(p.relative_to(ROOT)) not in SKIPPED)


def main(given: list[str]) -> int:
  """Print all hits; the exit code is 1 if there are any."""
  known = files()
  paths = [pathlib.Path(name).resolve() for name in given] or known
  found = [hit for path in paths if path in known for hit in hits(path)]
  print("\n".join(found) or "english: no banned words")
  return bool(found)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
