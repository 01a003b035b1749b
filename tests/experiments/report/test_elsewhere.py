"""What a report says of other measurements: MNIST, and attacks of results/."""

import json

import pytest

from experiments import report
from experiments.report import elsewhere, svg, tables, view, worth
from experiments.tables import code, leaderboard
from tests.experiments.report.test_report import accuracy, parse, plain, words
from tests.experiments.test_leaderboard import row


def lock(mechanism, dataset="digits", title="", **options):
  made = [accuracy(mechanism, c, 0.5, title=title) for c in ("right", "no_key")]
  own = {"mechanism": mechanism, "options": options, "dataset": dataset}
  return [r | own for r in made]


def schemes(*locks):
  return view.group(plain() + [r for rows in locks for r in rows], {})[1]


@pytest.fixture
def results(tmp_path, monkeypatch):
  monkeypatch.setattr(code, "ROOT", tmp_path)
  (tmp_path / "results").mkdir()
  return tmp_path / "results"


def write(file, *rows):
  file.write_text(json.dumps(rows))
  return file


def left(mechanism, values, nonfinite=0, **options):
  return {
    "mechanism": mechanism,
    "options": options,
    "condition": "no_key",
    "metric": "accuracy",
    "values": values,
    "value": sum(values) / len(values),
    "nonfinite": nonfinite,
    "seen": 30,
  }


def test_the_strongest_attack_is_beside_a_lock_that_was_not_attacked(results):
  played = row("hpnn_relax", (0.7, 0.8, 0.9), attacker={"images": 64})
  write(results / leaderboard.FILE, played | {"dataset": "digits"})
  # The defaults of HPNN, in words.
  locks = lock("hpnn", units=0), lock("shf", block_size=2)
  tree = parse(report.render(plain() + [r for x in locks for r in x], {}))
  said = words(tree.find(".//div[@aria-label='worth']"))
  told = "hpnn_relax with 64 labelled images: 80.0 (70.0 to 90.0) of 90.0 %"
  assert f"{told} (digits, leaderboard)" in said
  assert "strongest attack measured elsewhere" in said
  assert "verdict" not in said
  verdicts = tables.verdicts(schemes(*locks))
  assert f"measured elsewhere: {told}" in verdicts["hpnn"]
  assert "measured" not in verdicts["shf"]


def test_an_attack_on_other_options_is_not_shown(results):
  played = row("hpnn_relax", (0.7, 0.8, 0.9)) | {"dataset": "digits"}
  write(results / leaderboard.FILE, played)
  found = tables.verdicts(schemes(lock("hpnn", after_training=True)))
  assert "measured" not in found["hpnn"]


def test_without_results_the_verdict_is_shown(results):
  tree = parse(report.render(plain() + lock("hpnn"), {}))
  said = words(tree.find(".//div[@aria-label='worth']"))
  assert "verdict" in said
  assert "elsewhere" not in said


def test_digits_are_shown_beside_mnist(tmp_path):
  file = write(
    tmp_path / "table_mnist.json",
    left("hpnn", [0.1, 0.2]),
    left("shf", [0.7, 0.7], block_size=4),
    left("deep_lock", [0.1, 0.1], nonfinite=20),
  )
  locks = lock("hpnn"), lock("shf", block_size=4), lock("deep_lock")
  said = elsewhere.mnist(schemes(*locks), file).replace(svg.THIN, " ")
  assert "over 2 seeds, no key leaves: hpnn 15.0 % (10.0 % to 20.0 %)" in said
  end = f"shf 70.0 % ({tmp_path.name}/{file.name})."
  assert said.endswith(f"; {end}")


@pytest.mark.parametrize(
  ("dataset", "mechanism"), [("mnist", "hpnn"), ("digits", "np")]
)
def test_nothing_is_said_of_mnist_beside_other_data_or_locks(
  tmp_path, dataset, mechanism
):
  file = write(tmp_path / "table_mnist.json", left("hpnn", [0.1, 0.2]))
  assert elsewhere.mnist(schemes(lock(mechanism, dataset)), file) == ""
  absent = tmp_path / "none.json"
  assert elsewhere.mnist(schemes(lock("hpnn")), absent) == ""


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "damaged"),
    ('[{"metric": "acc', "damaged"),
    ("{}", "no list of rows"),
    ("[1]", "no list of rows"),
    ('[{"condition": "no_key", "metric": "accuracy"}]', "lacks 'mechanism'"),
  ],
)
def test_a_file_of_another_form_is_named(tmp_path, text, message) -> None:
  file = tmp_path / "table_mnist.json"
  file.write_text(text)
  with pytest.raises(ValueError, match=f"table_mnist.json.*{message}"):
    elsewhere.mnist(schemes(lock("hpnn")), file)


def test_seeds_are_those_of_every_lock(tmp_path) -> None:
  few = left("hpnn", [0.1, 0.2]), left("shf", [0.7, 0.7, 0.7])
  file = write(tmp_path / "table_mnist.json", *few)
  said = elsewhere.mnist(schemes(lock("hpnn"), lock("shf")), file)
  assert "over 2 to 3 seeds" in said


def test_a_verdict_on_attacks_of_the_run_is_not_replaced() -> None:
  played = row("hpnn_relax", (0.7, 0.8, 0.9)) | {"right": 0.9}
  one = worth.Worth("hpnn", "hpnn", {}, rows=(played,), measured="an attack")
  said = str(worth.table([one]))
  assert "verdict" in said and "measured elsewhere" not in said
