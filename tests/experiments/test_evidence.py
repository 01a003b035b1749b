"""What the docstrings of schemes claim is backed by attacks and tests.

Every line of a scheme's Guarantees and Known breaks names its evidence here: an
attack that applies to the scheme and has a row in a config, or a test.
"""

import ast
import importlib.util
import pathlib
import re

import pytest

from experiments.attacking import plan
from experiments.report import commands
from keyjax.attacks import registry
from tests.conftest import ROOT
from tests.experiments.docstrings import load_config, sections_of

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
ORDERS = "attacks/feature_permutation/test_orders.py::test_"
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
    "nothing is trained under the key": [
      SCHEMES.format("hpnn_after_training")
      + "the_key_gives_the_plain_function_in_every_bit",
      SCHEMES.format("hpnn_after_training")
      + "a_layer_that_cannot_be_absorbed_is_refused",
    ],
    "has the plain model, or one like": ["hpnn_base"],
    "weights alone": ["hpnn_statistics"],
    "relaxing each bit": ["hpnn_relax", "hpnn_relax_oracle", "hpnn_algebraic"],
    "Few neurons use few bits": [
      SCHEMES.format("hpnn") + "bits_of_units_without_neurons_have_no_effect"
    ],
    "Fine-tuning recovers": ["fine_tune", "hpnn_retrain"],
    "such as under `train=True`": [
      SCHEMES.format("hpnn_twin")
      + "what_a_call_in_training_computes_is_not_seen",
    ],
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
  "permutation_lock": {
    "Decryption is exact, on every dtype": [
      SCHEMES.format("permutation_lock") + "rows_and_columns_move_together"
    ],
    "all orders to search": [
      SCHEMES.format("permutation_lock") + "near_keys_count_swaps"
    ],
    "has the public model": ["arrow_match", "arrow_match_function"],
    "All values, and the norm": [
      SCHEMES.format("permutation_lock") + "values_and_norms_are_public"
    ],
    "No integrity": [
      SCHEMES.format("permutation_lock") + "a_changed_value_opens_changed"
    ],
    "Leaves that are not chosen": [
      ATTACKS_ON.format("permutation_lock").replace(
        "test_permutation_lock", "test_arrow_match"
      )
      + "fine_tuning_recovers_the_function"
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
  "feature_permutation": {
    "computes what a plain one does": [
      SCHEMES.format("feature_permutation") + "the_twin_computes_the_same"
    ],
    "Positions are kept": [
      SCHEMES.format("feature_permutation") + "a_position_stays_where_it_is"
    ],
    "serves every key": [
      SCHEMES.format("feature_permutation") + "the_laws_hold"
    ],
    "Batch normalisation after": [
      ORDERS + "stored_statistics_give_the_key_without_labels"
    ],
    "Nearly right keys": [
      ORDERS + "swaps_find_what_statistics_leave",
      ORDERS + "swaps_alone_climb",
    ],
    "Fine-tuning": [
      SCHEMES.format("feature_permutation")
      + "fine_tuning_learns_the_permutation"
    ],
    "a small key": [
      SCHEMES.format("feature_permutation")
      + "the_key_space_is_that_of_permutations"
    ],
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
