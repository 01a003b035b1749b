"""Results of other commands, below those of one, on a single page."""

from collections.abc import Sequence

from experiments.report import copies, page, privacy
from experiments.report.page import Html
from experiments.run import files, results

# What a folder may hold, and what draws it.
_DRAWN = {"privacy.json": privacy.parts, "copies.json": copies.parts}


def parts(folders: Sequence[str]) -> list[Html]:
  """Return what to put below a report.

  Args:
    folders: Workdirs of `experiments.privacy` or `experiments.copies`.

  Raises:
    ValueError: If one holds the results of neither.
  """
  made: list[Html] = []
  for folder in folders:
    found = [
      part
      for name, draw in _DRAWN.items()
      if (file := files.path(folder) / name).exists()
      for part in draw(results.read_json(file))
    ]
    if not found:
      raise ValueError(
        f"beside: {folder or 'an empty name'} holds no {' or '.join(_DRAWN)}: "
        "pass the workdir of experiments.privacy or experiments.copies"
      )
    made += found
  return made


def write(
  path: files.AnyPath, above: Sequence[Html], folders: Sequence[str]
) -> None:
  """Write a page of several reports, completely or not at all.

  Args:
    path: File.
    above: Parts of the first report.
    folders: As in `parts`.
  """
  title = "What models tell"
  files.write(path, page.document(f"KeyJAX: {title}", *above, *parts(folders)))
