"""The site: no warning, no broken link, and every public name."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

from docs import build
from tests.conftest import ROOT

pytest.importorskip("sphinx", reason="needs pip install 'keyjax[docs]'")
# A plain theme: furo takes half of the time, to draw the navigation.
PLAIN = ("-q", "-D", "html_theme=basic", "-D", "toc_object_entries=0")


def run(*command: str) -> subprocess.CompletedProcess[str]:
  # A process of its own: here, warnings of Sphinx's parts are errors.
  return subprocess.run(
    [sys.executable, *command], cwd=ROOT, capture_output=True, text=True
  )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("site")
  made = run("docs/build.py", str(folder), *PLAIN)
  assert made.returncode == 0, made.stderr
  return folder / "html"


def packages() -> dict[str, list[str]]:
  """Return the `__all__` of every package, read from its source."""
  found = {}
  for file in (ROOT / "keyjax").rglob("__init__.py"):
    for node in ast.parse(file.read_text()).body:
      if (
        isinstance(node, ast.Assign) and ast.unparse(node.targets) == "__all__"
      ):
        name = ".".join(file.parent.relative_to(ROOT).parts)
        found[name] = ast.literal_eval(node.value)
  return found


def test_every_public_name_is_on_the_page_of_its_package(
  site: pathlib.Path,
) -> None:
  pages = {x.stem: x.read_text() for x in (site / "api").glob("*.html")}
  anchors = {
    x for text in pages.values() for x in re.findall(r'id="(.+?)"', text)
  }
  named = packages()
  assert len(named) > 25
  for package, names in named.items():
    # What has two names is described under one: the other links to it.
    links = re.findall(
      r'href="[^"]*#([\w.]+)"[^>]*><code.*?<span[^>]*>(\w+)<', pages[package]
    )
    described = {name for target, name in links if target in anchors}
    for name in names:
      value = getattr(importlib.import_module(package), name)
      if inspect.ismodule(value):
        assert f"module-{value.__name__}" in anchors, (package, name)
      else:
        assert name in described, (package, name)


def test_every_page_of_docs_is_in_the_navigation(site: pathlib.Path) -> None:
  pages = [x.relative_to(build.DOCS) for x in build.DOCS.rglob("*.md")]
  assert len(pages) > 50
  assert not [x for x in pages if not (site / x.with_suffix(".html")).exists()]


def test_links_lead_to_where_pages_are(site: pathlib.Path) -> None:
  text = (site / "threat_models.html").read_text()
  assert 'href="security.html"' in text
  text = (site / "results.html").read_text()
  assert 'href="results/table_cifar10_resnet18.html"' in text
  assert 'href="results/index.html"' in text
  assert "docs/schemes.md" not in (site / "security.html").read_text()


def test_links_to_modules_lead_to_the_api(site: pathlib.Path) -> None:
  text = (site / "checkpoints.html").read_text()
  for name in ("keyjax.checkpoint", "keyjax.keyring"):
    link = rf'href="api/{name}\.html"><(?:span|code)[^>]*>.*?{name}<'
    assert re.search(link, text), name
  text = (site / "attacks/evasion.html").read_text()
  assert 'href="../api/keyjax.attacks.evasion.html"><' in text


def test_notebooks_are_pages_of_text_and_code(site: pathlib.Path) -> None:
  index = (site / "examples/index.html").read_text()
  assert 'href="ship.html"' in index
  text = (site / "examples/ship.html").read_text()
  assert "<h1>Ship a model to recipients" in text
  assert '<div class="highlight-python' in text


def test_broken_links_are_errors(tmp_path: pathlib.Path) -> None:
  (tmp_path / "source").mkdir()
  (tmp_path / "source/index.md").write_text(
    "# A\n\n[x](nowhere.md)\n[x](#nothing)\n\n```{toctree}\nabsent\n```\n"
  )
  code = (
    "import pathlib, sys; from docs import build; "
    "sys.exit(build.render(pathlib.Path(sys.argv[1]), *sys.argv[2:]))"
  )
  made = run("-c", code, str(tmp_path), *PLAIN)
  assert made.returncode == 1
  for message in ("'nowhere.md'", "'nothing'", "document 'absent'"):
    assert message in made.stderr


def test_every_figure_of_the_choice_is_in_the_files_that_it_names() -> None:
  page = build.DOCS / "choose.md"
  table = page.read_text().split("<!-- traced -->\n")[1]
  rows = [x.strip("|").split(" | ") for x in table.splitlines()[2:]]
  assert len(rows) > 7
  for *cells, sources in rows:
    files = re.findall(r"\]\((.+?)\)", sources)
    text = "".join((page.parent / x).resolve().read_text() for x in files)
    for figure in re.findall(r"\d+(?:[.,]\d+)*", " ".join(cells[2:])):
      found = re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d])", text)
      assert found, (cells[0], figure, files)
