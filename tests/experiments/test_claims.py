"""What schemes and documentation claim is backed by attacks and tests.

Every line of a scheme's Guarantees and Known breaks names its evidence here: an
attack that applies to the scheme and has a row in a config, or a test. What the
documentation calls strong has a row with an interval in the matrix, and that
row's attack fails here against the lock and succeeds without it.
"""

import ast
import dataclasses
import importlib.util
import pathlib
import re
from collections.abc import Iterator

import pytest
from ml_collections import ConfigDict

import keyjax
from experiments.attacking import plan, rows
from experiments.report import commands
from keyjax.attacks import intervals, referee, registry
from keyjax.attacks.game import Budget, Goal, Target
from tests.attacks import toys
from tests.conftest import ROOT

WORDS = re.compile(
  r"\b(robust\w*|resist\w*|withst\w+|surviv\w+|unbreakable|immune"
  r"|tamper-?proof|confidential|secure against|(nothing|no attack) known"
  r"|worth nothing)\b",
  re.IGNORECASE,
)
# Words of a claim, and the row of configs/matrix.py that supports it.
CLAIMS = {
  "as confidential as AES-CTR if no nonce": ("counter", "known"),
  "Signs and mantissas of the chosen leaves are": ("keyed_noise", "guess"),
  "nothing known; malleable": ("counter", "known"),
  "Ciphertext is worth nothing": ("counter", "tune_0"),
  "weights worth nothing without a key": ("counter", "tune_1"),
}
# A title of a paper, a denial, a premise.
NOT_CLAIMS = (
  "Block-wise Image Transformation with Secret Key for",
  "Nothing that leaves most weights right survives",
  "With nothing known*, the schedule",
)


def texts() -> dict[str, str]:
  """README, docs, and what the schemes guarantee."""
  found = {
    str(file.relative_to(ROOT)): file.read_text()
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
  }
  for file in sorted((ROOT / "keyjax" / "schemes").glob("*.py")):
    found[str(file.relative_to(ROOT))] = "\n\n".join(
      sections_of(file, "Guarantees")
    )
  return found


def sections_of(file: pathlib.Path, *titles: str) -> Iterator[str]:
  """Yield sections of the docstrings in a file."""
  kinds = ast.Module, ast.FunctionDef, ast.ClassDef
  title = "|".join(titles)
  for node in ast.walk(ast.parse(file.read_text())):
    if isinstance(node, kinds):
      doc = ast.get_docstring(node) or ""
      pattern = rf"^(?:{title}):\n((?: .*\n|\n)+)"
      yield from re.findall(pattern, doc + "\n", re.M)


def unbacked(text: str) -> list[str]:
  """Return the strong claims of a text, except those that are listed."""
  flat = re.sub(r"\s+", " ", text)
  for known in (*CLAIMS, *NOT_CLAIMS):
    # A listed sentence is removed up to its end.
    flat = re.sub(re.escape(known) + r"[^.|]*", "", flat)
  return [
    flat[max(m.start() - 60, 0) : m.end() + 40] for m in WORDS.finditer(flat)
  ]


# Scheme -> a phrase of each line of its Guarantees and Known breaks -> its
# evidence, an attack of the registry, or a test as FILE::FUNCTION below tests/.
ATTACKS_ON = "attacks/{0}/test_{0}.py::test_"
DEEP_LOCK = ATTACKS_ON.format("deep_lock")
HPNN = ATTACKS_ON.format("hpnn")
PIXELS = ATTACKS_ON.format("pixel_shuffle")
ADV_PARAMS = ATTACKS_ON.format("adv_params")
LAWS = "test_laws.py::test_"
LAWS_BOUND = "test_laws_bound.py::test_"
SCHEMES = "schemes/test_{}.py::test_"
MARK = SCHEMES.format("licensee_mark")
ERASE = ATTACKS_ON.format("licensee_mark").replace(
  "test_licensee_mark", "test_erase"
)
EVIDENCE = {
  "deep_lock": {
    "bit for bit, for every dtype": [LAWS + "laws_check_passes"],
    "AES-CTR under a public": [
      SCHEMES.format("deep_lock") + "counter_schedule_is_aes_ctr",
      DEEP_LOCK + "two_time_pad",
      "two_time_pad",
    ],
    "encrypts one tree, which the": [
      "test_one_time_keys.py::test_a_key_from_a_file_only_decrypts",
      "test_one_time_keys.py::test_a_file_remembers_what_claimed_its_key",
    ],
    "key schedule can be run backwards": ["known_plaintext", "constant_leaves"],
    "no nonce. Two models": ["two_time_pad"],
    "same weights under two secrets": ["schedule_difference"],
    "there is no integrity": ["flip_sign"],
    "argmax of NaN": [
      SCHEMES.format("deep_lock")
      + "float32_under_a_wrong_key_is_not_finite_and_int8_is"
    ],
  },
  "hpnn": {
    "Capacity:": [
      SCHEMES.format("hpnn") + "capacity_theorem_training_commutes_with_phi",
      SCHEMES.format("hpnn") + "absorb_makes_an_equivalent_plain_model",
    ],
    "once for each outermost call": [
      SCHEMES.format("hpnn_absorb") + "a_layer_is_multiplied_once_and_absorbed",
      SCHEMES.format("hpnn_absorb") + "inside_a_scan",
    ],
    "some of the locked layers only": [
      SCHEMES.format("hpnn_passes") + "a_pass_in_two_halves",
      SCHEMES.format("hpnn_passes")
      + "weights_used_without_their_layer_are_refused",
    ],
    "compiled program serves every key": [
      LAWS_BOUND + "5_one_compilation_serves_every_key"
    ],
    "weights alone": ["hpnn_statistics"],
    "relaxing each bit": ["hpnn_relax", "hpnn_relax_oracle", "hpnn_algebraic"],
    "Few neurons use few bits": [
      SCHEMES.format("hpnn") + "bits_of_units_without_neurons_have_no_effect"
    ],
    "Fine-tuning recovers": ["fine_tune", "hpnn_retrain"],
    "identity sum": [
      SCHEMES.format("hpnn") + "a_lock_after_an_identity_sum_warns",
      SCHEMES.format("hpnn_absorb")
      + "a_layer_that_cannot_be_absorbed_is_left_out",
    ],
    "before an even function": [
      SCHEMES.format("hpnn_passes") + "a_lock_without_effect_is_named"
    ],
    "methods of a module other than": [
      SCHEMES.format("hpnn_passes") + "layers_of_another_library_are_named",
      SCHEMES.format("hpnn_passes") + "a_jitted_part_is_refused_or_named",
    ],
  },
  "pixel_shuffle": {
    "bijection of 8-bit images": [
      SCHEMES.format("pixel_shuffle") + "as_published_and_invertible"
    ],
    "training and evaluation see the same": [
      SCHEMES.format("pixel_shuffle")
      + "training_and_evaluation_see_the_same_images"
    ],
    "Small keys": ["exhaust", "attacks/test_keys.py::test_key_spaces"],
    "hill climbing": ["pixel_climb", PIXELS + "swaps_climb"],
    "1x1 convolution": ["pixel_conv"],
    "pixel values in their block": ["pixel_jigsaw"],
  },
  "patch_embedding": {
    "outputs are those of the plain model": [
      SCHEMES.format("patch_embedding")
      + "the_plain_model_serves_encrypted_images"
    ],
    "Everything that breaks the transformation": ["pixel_conv", "pixel_jigsaw"],
  },
  "adv_params": {
    "Decryption is exact": [LAWS + "laws_check_passes"],
    "are finite and differ in at most": [
      SCHEMES.format("adv_params")
      + "locked_params_are_finite_and_float_subtraction_would_not_do"
    ],
    "not a short key": [
      SCHEMES.format("adv_params") + "a_key_for_another_tree"
    ],
    "tens of scalars": [
      "clip_outliers",
      "drop_duplicates",
      "line_search",
      ADV_PARAMS + "line_search_with_200_images",
    ],
    "base model shows every change": ["nearest_base"],
  },
  "keyed_noise": {
    "Decryption is exact": [LAWS + "laws_check_passes"],
    "confidential as AES-CTR": [
      SCHEMES.format("keyed_noise") + "the_noise_is_aes_ctr"
    ],
    "finite where the plain ones are": [
      SCHEMES.format("keyed_noise")
      + "exponents_stay_and_signs_and_mantissas_do_not"
    ],
    "Exponents stay": [
      SCHEMES.format("keyed_noise")
      + "exponents_stay_and_signs_and_mantissas_do_not"
    ],
    "Leaves that are not chosen": ["fine_tune"],
    "One key is for one encryption": [
      SCHEMES.format("keyed_noise") + "a_second_encryption_has_another_nonce"
    ],
    "No integrity": [SCHEMES.format("keyed_noise") + "the_noise_is_aes_ctr"],
  },
  "licensee_mark": {
    "Removing a mark with its key": [LAWS + "laws_check_passes"],
    "False accusations are bounded": [
      MARK + "scores_without_the_mark_keep_to_the_bound",
      MARK + "the_bound_counts_the_licensees",
    ],
    "Traced with p < 1e-6": [
      MARK + "a_changed_copy_is_traced",
      MARK + "each_of_three_who_average_is_traced",
      ERASE + "what_does_not_erase_a_mark",
    ],
    "It locks nothing": [ERASE + "what_does_not_erase_a_mark"],
    "The plain weights remove it": [
      MARK + "each_copy_is_traced_to_its_licensee_alone"
    ],
    "Many licensees together": [
      "erase_by_licensees",
      MARK + "the_middle_of_many_copies_is_the_plain_weight",
    ],
    "Noise of several steps": [
      "erase_mark",
      MARK + "noise_of_many_steps_hides_the_mark",
    ],
    "in another order or scale": [
      MARK + "other_orders_and_scales_leave_nothing_to_compare"
    ],
    "can make any licensee's copy": [
      MARK + "each_copy_is_traced_to_its_licensee_alone"
    ],
  },
}
# Files that hold schemes of other names, or work with their keys.
MECHANISMS = {
  "pixel_shuffle": ("shf", "np", "ffx"),
  "patch_embedding": ("shf", "np"),
}


def lines(scheme: str) -> list[str]:
  """Return the lines of a scheme's Guarantees and Known breaks."""
  file = ROOT / "keyjax" / "schemes" / f"{scheme}.py"
  sections = sections_of(file, "Guarantees", "Known breaks")
  text = re.sub(r"\n\s*(?=[^\s-])", " ", "\n".join(sections))
  return [x.strip() for x in text.splitlines() if x.strip().startswith("- ")]


@pytest.mark.parametrize("scheme", EVIDENCE)
def test_every_line_has_evidence_and_all_evidence_has_a_line(
  scheme: str,
) -> None:
  found = lines(scheme)
  for line in found:
    backing = [phrase for phrase in EVIDENCE[scheme] if phrase in line]
    assert len(backing) == 1, f"{line!r}: {backing or 'no evidence'}"
  for phrase in EVIDENCE[scheme]:
    assert sum(phrase in line for line in found) == 1, phrase


def test_every_scheme_with_known_breaks_is_listed() -> None:
  files = (ROOT / "keyjax" / "schemes").glob("*.py")
  stated = {f.stem for f in files if [*sections_of(f, "Known breaks")]}
  assert stated - {"registry"} == set(EVIDENCE)


@pytest.fixture(scope="module")
def played() -> set[tuple[str, str]]:
  """Return mechanisms and attacks that have a row in some config."""
  found = set()
  for known in commands.known():
    file, *words = known.argument.split(":")
    if known.program != "attack":
      continue
    config = load_config(file, *words)
    for scheme, label in plan.pairs(config):
      found.add((config.schemes[scheme].scheme, config.attacks[label].attack))
  return found


@pytest.mark.parametrize("scheme", EVIDENCE)
def test_evidence_exists(scheme: str, played: set[tuple[str, str]]) -> None:
  """An attack applies to the scheme and has a row; a test can be run."""
  mechanisms = MECHANISMS.get(scheme, (scheme,))
  for phrase, evidence in EVIDENCE[scheme].items():
    for item in evidence:
      if "::" in item:
        file, _, function = item.partition("::")
        assert function in functions(ROOT / "tests" / file), item
        continue
      attack = registry.get(item)
      fit = [m for m in mechanisms if registry.applies(attack, m)]
      assert fit, f"{phrase}: {item} does not apply to {scheme}"
      assert any((m, item) in played for m in fit), f"{item} has no row"


def functions(file: pathlib.Path) -> set[str]:
  return {
    node.name
    for node in ast.walk(ast.parse(file.read_text()))
    if isinstance(node, ast.FunctionDef)
  }


def test_names_in_docstrings_are_attacks_on_the_scheme() -> None:
  """`attacks.x.y` is a module that can be imported, `x_y` an attack."""
  names = {a.name for s in ("hpnn", "shf") for a in registry.applicable(s)}
  found = 0
  for scheme in EVIDENCE:
    for name in re.findall(r"`([\w.]+)`", " ".join(lines(scheme))):
      if name.startswith("attacks."):
        assert importlib.util.find_spec(f"keyjax.{name}") is not None, name
        found += 1
      elif name.startswith(("hpnn_", "pixel_")):
        assert name in names, name
        found += 1
  assert found >= 3


def load_config(file: str, *words: str) -> ConfigDict:
  spec = importlib.util.spec_from_file_location(
    "config", ROOT / "configs" / file
  )
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*words)


@pytest.fixture(scope="module")
def matrix() -> ConfigDict:
  return load_config("matrix.py")


def test_no_claim_is_without_evidence() -> None:
  for name, text in texts().items():
    assert not unbacked(text), f"{name}: no row of the matrix is named for it"


def test_a_claim_without_evidence_is_found() -> None:
  for text in (
    "The lock is robust\nto fine-tuning.",
    "It resists pruning.",
    "| HPNN | nothing known | x |",
    "As\nconfidential as a wall.",
  ):
    assert len(unbacked(text)) == 1, text
  assert unbacked("nothing known; malleable. It is robust.") != []


def test_what_is_listed_occurs_in_the_texts() -> None:
  flat = re.sub(r"\s+", " ", " ".join(texts().values()))
  for known in (*CLAIMS, *NOT_CLAIMS):
    assert known in flat, f"{known!r} occurs nowhere: remove it from the list"


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_has_a_row_with_an_interval(
  claim: str, matrix: ConfigDict
) -> None:
  pair = CLAIMS[claim]
  assert pair in set(plan.pairs(matrix))
  spec = matrix.attacks[pair[1]]
  # Of images, or of games with fresh keys: one game has no interval.
  many = registry.get(spec.attack).goal == Goal.FUNCTION or spec.trials > 1
  assert many, f"{pair} is played once"


def locked(kind: str) -> Target:
  """Lock the digits model as the claim says, or with a weak lock."""
  schemes = {
    "counter": ("deep_lock", keyjax.deep_lock("counter")),
    "chain": ("deep_lock", keyjax.deep_lock()),
    "keyed_noise": ("keyed_noise", keyjax.keyed_noise()),
    "none": ("identity", keyjax.identity()),
  }
  name, scheme = schemes[kind]
  return toys.target(scheme, name)


def score(label: str, target: Target, matrix: ConfigDict) -> referee.Score:
  """Play the attack of a row against a target, with its own attacker."""
  spec = matrix.attacks[label]
  attacker = rows.attacker_of(spec, len(target.train.label))
  attacker = dataclasses.replace(
    attacker, known_leaf="", images=min(attacker.images, 100)
  )
  budget = Budget(steps=min(spec.steps, 40), points=2)
  attack = registry.get(spec.attack)
  grid = spec.grid.settings or attack.grid
  return referee.sweep(attack, target, attacker, budget, grid).score


def test_known_weights_open_the_chain_and_not_the_counter_mode(
  matrix: ConfigDict,
) -> None:
  assert score("known", locked("chain"), matrix).value == 1
  assert score("known", locked("counter"), matrix).value == 0


def test_guessing_leaves_keyed_noise_locked(matrix: ConfigDict) -> None:
  target = locked("keyed_noise")
  right = referee.accuracy(target.authorized(), target.test)
  assert score("guess", target, matrix).high < right.low


@pytest.mark.parametrize("label", ["tune_0", "tune_1"])
def test_fine_tuning_ciphertext_gains_nothing(
  label: str, matrix: ConfigDict
) -> None:
  """An open file gains, which shows that the attack can."""
  fresh = score(label.replace("tune", "scratch"), locked("none"), matrix)
  gains = {
    kind: intervals.difference(
      score(label, locked(kind), matrix)[:3], fresh[:3]
    )
    for kind in ("counter", "none")
  }
  assert gains["counter"][0] <= 0 <= gains["counter"][1]
  assert gains["none"][0] > 0
