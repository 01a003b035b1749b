"""The wheel: what it holds and declares, and that it runs on that alone."""

import ast
import functools
import importlib.metadata
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from experiments import annotate
from experiments.benchmarks.gridworlds import comparison as gridworlds
from experiments.benchmarks.parity import comparison
from experiments.benchmarks.peers import environment
from experiments.benchmarks.pretrained import llama_cpp, originals
from keyjax.aes import library
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Runs README's examples, and imports every module of the library.
SNIPPETS = """
import doctest, importlib, json, pkgutil, sys
sys.path[:0] = json.loads(sys.argv[1])
flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
failed, tried = doctest.testfile(sys.argv[2], False, optionflags=flags)
assert tried > 5 and not failed, (failed, tried)
import keyjax
modules = pkgutil.walk_packages(keyjax.__path__, "keyjax.")
names = [m.name for m in modules if not m.name.endswith("__main__")]
for name in names:
  importlib.import_module(name)
print(len(names), keyjax.__file__)
"""


def imported(folder: pathlib.Path) -> set[str]:
  """Return the top-level modules that the files of a folder import."""
  found = set()
  for file in folder.rglob("*.py"):
    for node in ast.walk(ast.parse(file.read_text())):
      if isinstance(node, ast.Import):
        found |= {alias.name for alias in node.names}
      elif isinstance(node, ast.ImportFrom) and node.module:
        found.add(node.module)
  return {name.partition(".")[0] for name in found} - sys.stdlib_module_names


def declared(*extras: str) -> set[str]:
  """Return the names of the declared requirements."""
  given = list(PROJECT["dependencies"])
  for extra in extras:
    given += PROJECT["optional-dependencies"][extra]
  return {canonicalize_name(Requirement(line).name) for line in given}


@functools.cache
def installed() -> Mapping[str, list[str]]:
  return importlib.metadata.packages_distributions()


def distributions(module: str) -> set[str]:
  """Return the installed distributions that hold a top-level module."""
  return {canonicalize_name(name) for name in installed().get(module, ())}


@pytest.mark.parametrize(
  ("folder", "extras"),
  [
    ("keyjax", ()),
    ("experiments", ("experiments", "pretrained")),
    ("examples", ("experiments",)),
  ],
)
def test_every_import_is_declared(folder, extras):
  ours = {"keyjax", "experiments", "examples"}
  undeclared = {
    module
    for module in imported(ROOT / folder) - ours
    if not distributions(module) & declared(*extras)
  }
  # Tools to compare with have an environment of their own.
  packages = (*environment.PACKAGES, *comparison.PACKAGES, comparison.REFERENCE)
  packages += (*gridworlds.PACKAGES, gridworlds.MODULE, *annotate.PACKAGES)
  packages += (*llama_cpp.PACKAGES, *originals.PACKAGES)
  peers = {re.match(r"[\w-]+", line)[0] for line in packages}
  assert undeclared <= (peers if folder == "experiments" else set())


def test_the_library_imports_what_it_declares():
  used = set().union(*map(distributions, imported(ROOT / "keyjax")))
  assert declared() <= used


def test_the_library_never_imports_the_experiments():
  assert "experiments" not in imported(ROOT / "keyjax")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  """The wheel of this checkout, built without the network."""
  pytest.importorskip("setuptools", minversion="77", reason="builds the wheel")
  folder = tmp_path_factory.mktemp("wheel")
  source = folder / "source"
  source.mkdir()
  for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
    shutil.copy(ROOT / name, source)
  for name in ("keyjax", "experiments", "tests", "configs"):
    ignored = shutil.ignore_patterns("__pycache__", "vectors", "*.so")
    shutil.copytree(ROOT / name, source / name, ignore=ignored)
  command = [sys.executable, "-m", "pip", "wheel", ".", "--quiet", "--no-deps"]
  command += ["--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
  subprocess.run(command, cwd=source, check=True)
  [built] = folder.glob("*.whl")
  return built


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
  folder = tmp_path_factory.mktemp("unpacked")
  with zipfile.ZipFile(wheel) as file:
    file.extractall(folder)
  return folder


@pytest.mark.packaging
def test_the_wheel_holds_the_library_alone(unpacked):
  names = {path.name for path in unpacked.iterdir()}
  info = {name for name in names if name.endswith(".dist-info")}
  assert len(info) == 1 and names - info == {"keyjax"}
  for name in ("py.typed", "card/schema.json"):
    assert (unpacked / "keyjax" / name).is_file()
  here = {p.relative_to(ROOT) for p in (ROOT / "keyjax").rglob("*.py")}
  assert {p.relative_to(unpacked) for p in unpacked.rglob("*.py")} == here


@pytest.mark.packaging
def test_the_wheel_holds_the_compiled_cipher(wheel, unpacked):
  if shutil.which("cc") is None:
    pytest.skip("no C compiler")
  assert "-cp311-abi3-" in wheel.name
  for name in library.LIBRARIES:
    built = (library.FOLDER / f"{name}.abi3.so").is_file()
    assert (unpacked / "keyjax/aes/csrc" / f"{name}.abi3.so").is_file() == built


def closure(wheel_metadata: str) -> set[str]:
  """Return the distributions that `pip install` of the wheel brings."""
  lines = re.findall(r"^Requires-Dist: (.*)$", wheel_metadata, re.M)
  todo = [(line, "") for line in lines]
  found: set[str] = set()
  asked: set[tuple[str, str]] = set()
  while todo:
    line, extra = todo.pop()
    requirement = Requirement(line)
    marker = requirement.marker
    if marker is not None and not marker.evaluate({"extra": extra}):
      continue
    name = canonicalize_name(requirement.name)
    found.add(name)
    lines = importlib.metadata.distribution(name).requires or []
    for extra in {"", *requirement.extras}:
      if (name, extra) not in asked:
        asked.add((name, extra))
        todo += [(line, extra) for line in lines]
  return found


def link_installed(names: set[str], site: pathlib.Path) -> None:
  """Link what is installed of some distributions into an empty folder."""
  for name in names:
    found = importlib.metadata.distribution(name)
    for path in found.files or ():
      top = path.parts[0]
      target = pathlib.Path(found.locate_file(top))
      if top not in ("..", "__pycache__") and not (site / top).exists():
        (site / top).symlink_to(target)


@pytest.mark.packaging
def test_the_wheel_runs_on_its_requirements_alone(unpacked, tmp_path):
  [metadata] = unpacked.glob("*.dist-info/METADATA")
  names = closure(metadata.read_text())
  assert "jax" in names
  assert names.isdisjoint({"aiohttp", "gcsfs", "pyjwt", "tensorflow-datasets"})
  site = tmp_path / "site"
  site.mkdir()
  link_installed(names, site)
  # -I and -S: neither this environment's packages nor this checkout.
  places = json.dumps([str(unpacked), str(site)])
  command = [sys.executable, "-I", "-S", "-c", SNIPPETS, places]
  done = subprocess.run(
    [*command, str(ROOT / "README.md")],
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  count, file = done.stdout.split()[-2:]
  assert int(count) > 50 and file.startswith(str(unpacked))


@pytest.mark.slow
@pytest.mark.packaging
def test_the_wheel_is_installed_into_an_empty_environment(
  wheel, tmp_path, capsys
):
  env = tmp_path / "env"
  subprocess.run([sys.executable, "-m", "venv", str(env)], check=True)
  python = str(env / "bin" / "python")
  pip = [python, "-I", "-m", "pip", "--quiet"]  # Without PYTHONPATH.
  probe = [*pip, "download", "--no-deps", "--dest", str(tmp_path), "shtab"]
  reached = subprocess.run(probe, capture_output=True, text=True)
  if reached.returncode:
    pytest.skip(f"no package index: {reached.stderr.strip()[-200:]}")
  subprocess.run([*pip, "install", str(wheel)], check=True)
  for command in (
    [python, "-I", "-c", SNIPPETS, "[]", str(ROOT / "README.md")],
    [str(env / "bin" / "keyjax"), "--help"],
  ):
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
  site = next((env / "lib").glob("python*/site-packages"))
  size = sum(p.stat().st_size for p in site.rglob("*") if p.is_file())
  listed = subprocess.run(
    [python, "-I", "-m", "pip", "list", "--format=json"],
    capture_output=True,
    text=True,
    check=True,
  )
  with capsys.disabled():
    count = len(json.loads(listed.stdout))
    print(f"\npip install keyjax: {count} packages, {size / 1e6:.0f} MB")
