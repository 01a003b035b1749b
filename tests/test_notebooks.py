"""The notebooks run from top to bottom, and show what their text claims."""

import json
import math
import pathlib
import re
import tempfile

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def printed(name: str) -> str:
  """Execute a notebook in a kernel of its own; return what it prints."""
  pytest.importorskip("ipykernel")
  nbclient = pytest.importorskip("nbclient")
  nbformat = pytest.importorskip("nbformat")
  from traitlets.config import Config

  book = nbformat.read(ROOT / "examples" / name, as_version=4)
  # Sockets are files, with short names: no port of this machine listens.
  with tempfile.TemporaryDirectory() as folder:
    manager = {"transport": "ipc", "ip": f"{folder}/k"}
    config = Config({"KernelManager": manager})
    nbclient.NotebookClient(book, timeout=300, config=config).execute()
  outputs = [x for cell in book.cells for x in cell.get("outputs", ())]
  assert not [x for x in outputs if x.get("name") == "stderr"], outputs
  texts = [x.get("text") or x["data"]["text/plain"] for x in outputs]
  return "\n".join(texts)


@pytest.fixture(autouse=True)
def _files_of_jupyter(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
    monkeypatch.setenv(name, str(tmp_path / name.lower()))
  monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_not_committed(path: pathlib.Path) -> None:
  book = json.loads(path.read_text())
  code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
  assert len(code) > 3
  for cell in code:
    assert cell["outputs"] == [] and cell["execution_count"] is None
    assert cell["metadata"] == {}
  assert book["metadata"]["kernelspec"]["name"] == "python3"


def percentages(text: str, name: str) -> list[float]:
  """Return the numbers of the line that starts with a name; NaN is one."""
  [line] = re.findall(rf"^{re.escape(name)} +(.*)$", text, re.M)
  return [float(x) for x in re.findall(r"\d+\.\d|NaN", line)]


def test_lock_and_judge() -> None:
  text = printed("lock_and_judge.ipynb")
  table, games = text.split("counter mode, int8")
  for name in ("HPNN", "keyed noise", "permutation lock"):
    right, none, wrong = percentages(table, name)
    assert right > 93 and none < 75 and wrong < 50, name
  right, none, wrong = percentages(table, "counter mode")
  assert right > 93 and math.isnan(none) and math.isnan(wrong)
  right, none, wrong = percentages(f"int8{games}", "int8")
  assert right > 93 and none < 50 and 3 < wrong < 20
  scratch, _, control = percentages(games, "HPNN          scratch")
  tuned, _, _ = percentages(games, "HPNN          fine_tune")
  relaxed, low, _ = percentages(games, "HPNN          hpnn_relax")
  assert scratch < tuned and control < low and relaxed > 85
  cipher, _, _ = percentages(games, "counter mode  fine_tune")
  assert cipher <= control
  assert "<Figure" in text


def test_ship() -> None:
  text = printed("ship.ipynb")
  assert "'format': 'keyjax-sealed'" in text
  assert "{'head': {'bias': (10,), 'kernel': (64, 10)}}" in text
  assert "CannotOpen: cannot open" in text
  assert "is of step 1000, not of step 2000" in text
  assert "does not open: it is damaged" in text
  assert "{'dense': {'bias': (64,)}, 'head': {'bias': (10,)}}" in text
  assert re.search("KeyringError: recipient x25519:.* was revoked", text)
  assert "['dense.bias', 'dense.kernel', 'head.bias', 'head.kernel']" in text
  assert "SECRET" not in text
