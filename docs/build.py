"""The site: its pages gathered from the repository, then built by Sphinx.

    python docs/build.py [FOLDER [OPTION ...]]

The pages are docs/, the programs and notebooks of examples/, Markdown files of
the root and of results/, and one for each public package. FOLDER, by default
build/docs, gets `source` and `html`; options go to Sphinx. Warnings are errors:
a broken link, a heading that is not there, a docstring that does not render.
"""

import importlib
import inspect
import json
import os
import pathlib
import pkgutil
import re
import shutil
import sys
import types

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Pages of the site that are not in docs/, and where they are on it.
_OTHERS = {
  ROOT / "CHANGELOG.md": "changelog.md",
  ROOT / "CONTRIBUTING.md": "contributing.md",
  ROOT / "SECURITY.md": "security.md",
  ROOT / "TPU_SETUP.md": "tpu_setup.md",
  ROOT / "examples/README.md": "examples/index.md",
}
# Public modules of packages that have no `__all__`.
_LISTED = {
  "keyjax.attacks": [
    "game",
    "intervals",
    "key_space",
    "measure",
    "near_keys",
    "referee",
    "registry",
    "verdict",
    "views",
  ],
  "keyjax.interpret": ["activations", "probe", "saliency", "similarity"],
  "keyjax.schemes": ["registry"],
}
_SHORT = 70  # Longer values of constants are left out.
_TABLES = """# Tables

Accuracy with and without the key, over seeds, with intervals, key spaces and
times: a table for each data set and network. [Results](../results.md) has the
figures in short.
"""
# Below the page of a folder: its other pages, for the navigation.
_REST_OF_FOLDER = """
```{toctree}
:glob:
:titlesonly:
:maxdepth: 1

*
```
"""
_FENCED = re.compile(r"^(```.*?^```)", re.M | re.S)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def build(folder: pathlib.Path, *options: str) -> int:
  """Build the site in a folder; return the exit code of Sphinx."""
  gather(folder / "source")
  return render(folder, *options)


def render(folder: pathlib.Path, *options: str) -> int:
  """Make the pages of a folder's `source`; return the exit code of Sphinx."""
  from sphinx.cmd.build import main

  command = ["-b", "html", "-c", DOCS, "-d", folder / "doctrees", "-n", "-W"]
  command += ["--keep-going", *options, folder / "source", folder / "html"]
  return main([str(x) for x in command])


def gather(source: pathlib.Path) -> None:
  """Write the sources of all pages into a folder."""
  shutil.rmtree(source, ignore_errors=True)
  pages = {x: source / x.relative_to(DOCS) for x in DOCS.rglob("*.md")}
  pages |= {file: source / name for file, name in _OTHERS.items()}
  results = (ROOT / "results").glob("*.md")
  pages |= {x: source / "results" / x.name for x in results}
  for pattern in ("[!_]*.py", "*.ipynb"):
    programs = (ROOT / "examples").glob(pattern)
    pages |= {x: source / f"examples/{x.stem}.md" for x in programs}
  modules = public_modules()
  paged = [x for x in modules if _has_page(x)]
  targets = pages | {_file(x): source / f"api/{x}.rst" for x in paged}
  for file, page in pages.items():
    if file.suffix == ".py":
      _write(page, f"# {file.name}\n\n```python\n{file.read_text()}```\n")
    elif file.suffix == ".ipynb":
      _write(page, _notebook(file))
    else:
      _write(page, _linked(file, targets, source))
  _write(source / "results/index.md", _TABLES)
  for folder in ("attacks", "examples", "formats", "results"):
    with (source / folder / "index.md").open("a") as index:
      index.write(_REST_OF_FOLDER)
  known: dict[object, str] = {}
  for name in paged:
    _write(source / f"api/{name}.rst", _api_page(name, modules, known))
  _write(source / "api/index.rst", _api_index(paged))


def _notebook(file: pathlib.Path) -> str:
  """Return the text and the code of a notebook, as Markdown."""
  parts = []
  for cell in json.loads(file.read_text())["cells"]:
    text = "".join(cell["source"])
    is_code = cell["cell_type"] == "code"
    parts.append(f"```python\n{text}\n```" if is_code else text)
  return "\n\n".join(parts) + "\n"


def _write(page: pathlib.Path, text: str) -> None:
  page.parent.mkdir(parents=True, exist_ok=True)
  page.write_text(text)


def _linked(
  file: pathlib.Path,
  pages: dict[pathlib.Path, pathlib.Path],
  source: pathlib.Path,
) -> str:
  """Return the text of a page, with links to where its targets are.

  A public module leads to its page of the API. What is in the repository and
  not on the site is named by its path.
  """

  def link(match: re.Match[str]) -> str:
    text, target, anchor = match.groups()
    wanted = (file.parent / target).resolve()
    page = pages.get(wanted)
    if wanted == ROOT / "results":
      page = source / "results/index.md"
    if page:
      where = os.path.relpath(page, pages[file].parent)
      return f"[{text}]({where}{anchor or ''})"
    if not wanted.exists():
      return match[0]  # Sphinx says that it is missing.
    path = f"`{wanted.relative_to(ROOT)}`"
    return path if text.strip("`") in path else f"{text} ({path})"

  parts = _FENCED.split(file.read_text())
  # The empty line below an example is for doctest.
  return "".join(
    part.replace("\n\n```", "\n```")
    if part.startswith("```")
    else _LINK.sub(link, part)
    for part in parts
  )


def public_modules() -> dict[str, list[str]]:
  """Return the public names of every public module of the library.

  Public are packages that list their names, the modules that they list, and
  the errors.
  """
  import keyjax

  found = {}
  packages = pkgutil.walk_packages(keyjax.__path__, "keyjax.")
  waiting = ["keyjax", "keyjax.errors"]
  waiting += [x.name for x in packages if x.ispkg]
  for name in waiting:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", _LISTED.get(name))
    if listed is None and hasattr(module, "__path__"):
      continue  # A package of modules that are not public.
    found[name] = sorted(listed or _defined(module))
    parts = [f"{name}.{x}" for x in listed or ()]
    waiting += [x for x in parts if _is_module(x) and x not in waiting]
  return dict(sorted(found.items()))


def _is_module(name: str) -> bool:
  """Return whether a public name is a module, which is then imported."""
  package, _, last = name.rpartition(".")
  if last in _LISTED.get(package, ()):
    importlib.import_module(name)
  return inspect.ismodule(getattr(sys.modules[package], last))


def _defined(module: types.ModuleType) -> list[str]:
  """Return the public names that a module without an `__all__` defines."""
  return [
    name
    for name, value in vars(module).items()
    if not name.startswith("_")
    and getattr(value, "__module__", "") == module.__name__
  ]


def _api_page(
  name: str, modules: dict[str, list[str]], known: dict[object, str]
) -> str:
  """Return the page of a module, with the modules that it lists."""
  parts = _module(name, modules[name], "=", known)
  for part in _sections(name, modules):
    parts += _module(part, modules[part], "-", known)
  return "\n".join(parts)


def _sections(name: str, modules: dict[str, list[str]]) -> list[str]:
  """Return the modules that are described on the page of another one."""
  listed = (f"{name}.{x}" for x in modules[name])
  return [x for x in listed if x in modules and not _has_page(x)]


def _has_page(name: str) -> bool:
  """Return whether a module has a page: packages, and those of `keyjax`."""
  return name.count(".") <= 1 or hasattr(sys.modules[name], "__path__")


def _file(name: str) -> pathlib.Path:
  """Return the file of a module: pages that link to it link to its page."""
  return pathlib.Path(str(sys.modules[name].__file__)).resolve()


def _module(
  name: str, names: list[str], underline: str, known: dict[object, str]
) -> list[str]:
  """Return the lines of a module: its docstring, a table, every name."""
  module = sys.modules[name]
  values = {x: getattr(module, x) for x in names}
  values = {x: v for x, v in values.items() if not inspect.ismodule(v)}
  lines = [name, underline * len(name), "", f".. automodule:: {name}", ""]
  if values:
    lines += [".. list-table::", "   :widths: auto", ""]
  for x, value in values.items():
    first = known.setdefault(_key(value, f"{name}.{x}"), f"{name}.{x}")
    lines += [f"   * - :py:obj:`{x} <{first}>`", f"     - {_brief(value)}"]
  for x, value in values.items():
    if known[_key(value, f"{name}.{x}")] == f"{name}.{x}":
      lines += ["", *_described(x, value)]
  return [*lines, ""]


def _brief(value: object) -> str:
  """Return the first paragraph of a docstring, as one line."""
  if _kind(value) == "data":
    return ""
  return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())


def _key(value: object, name: str) -> object:
  """Return what the names of one thing share; constants have one name each."""
  return name if _kind(value) == "data" else id(value)


def _described(name: str, value: object) -> list[str]:
  """Return the directive of one name of the module of a page."""
  kind = _kind(value)
  if kind == "data":
    shown = repr(value)
    lines = [f".. py:data:: {name}"]
    return lines + ([f"   :value: {shown}"] if len(shown) < _SHORT else [])
  members = ["   :members:"] if inspect.isclass(value) else []
  return [f".. auto{kind}:: {name}", *members]


def _kind(value: object) -> str:
  ours = getattr(value, "__module__", "").startswith("keyjax")
  if inspect.isclass(value) and ours:
    return "exception" if issubclass(value, BaseException) else "class"
  wrapped = getattr(value, "__wrapped__", value)
  return "function" if inspect.isroutine(wrapped) else "data"


def _api_index(names: list[str]) -> str:
  lines = ["API reference", "=============", ""]
  lines += ["Every public name of the library, from its docstrings.", ""]
  lines += [".. toctree::", "   :maxdepth: 1", ""]
  return "\n".join([*lines, *map(_entry, names), ""])


def _entry(name: str) -> str:
  """Return a line of a toctree; the sidebar is narrow."""
  return f"   {name.removeprefix('keyjax.')} <{name}>"


if __name__ == "__main__":
  target, *given = sys.argv[1:] or ["build/docs"]
  sys.exit(build(pathlib.Path(target).resolve(), *given))
