"""A new scheme takes one new file, and every part of KeyJAX works with it."""

import importlib
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import attack as attack_job
from experiments import main
from experiments.run import config as configs
from keyjax import Secret, keys, laws
from keyjax import card as cards
from keyjax.attacks import key_space, near_keys, views
from keyjax.attacks.game import Attacker
from keyjax.schemes import registry
from tests import trees
from tests.attacks import toys
from tests.checkpoint.children import Server

SOURCE = '''
"""Mask: every weight XOR one of a few secret words, in turn."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import keys, tree
from keyjax.scheme import Scheme
from keyjax.schemes import registry
from keyjax.secrets import Secret

NAME = "mask"


@keys.key_dataclass
class MaskKey(keys.Key):
  distance_unit = "bits"
  words: jax.Array  # uint32[words]
  spec: tree.Spec = keys.static()

  def near(self, distance: int, rng: np.random.Generator) -> Self:
    octets = np.asarray(self.words).view(np.uint8)
    flipped = keys.flip_bits(octets, distance, rng).view(np.uint32)
    return self.replace(words=jnp.asarray(flipped))

  def max_distance(self) -> int:
    return 32 * self.words.size


def mask(words: int = 4, label: str = "mask") -> Scheme:
  def keygen(secret: Secret, params: Any, batch: Any) -> MaskKey:
    data = np.frombuffer(secret.derive(label, 4 * words), np.uint32)
    return MaskKey(words=jnp.asarray(data), spec=tree.make_spec(params, NAME))

  def encrypt(key: MaskKey, params: Any) -> Any:
    return mix(key, params, words=False)

  def decrypt(key: MaskKey, params: Any) -> Any:
    return mix(key, params, words=True)

  def mix(key: MaskKey, params: Any, words: bool) -> Any:
    leaves, treedef = tree.check_spec(key.spec, params, NAME, words=words)
    out = [
      one(key, x, s, words) if s.locked else x
      for x, s in zip(leaves, key.spec, strict=True)
    ]
    return jax.tree.unflatten(treedef, out)

  def one(key: MaskKey, x: Any, leaf: Any, words: bool) -> Any:
    plain = x if words else tree.as_words(x)
    pad = jnp.resize(key.words, x.shape).astype(plain.dtype)
    mixed = plain ^ pad
    return tree.from_words(mixed, leaf.dtype) if words else mixed

  return Scheme(keygen, encrypt, decrypt)


registry.register(
  NAME,
  mask,
  security_class=registry.OBFUSCATION,
  locks_int8=True,
  private_options=("label",),
)
'''


@pytest.fixture(scope="module")
def module(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ModuleType]:
  folder = tmp_path_factory.mktemp("one_file")
  name = f"{folder.name}_scheme"
  (folder / f"{name}.py").write_text(SOURCE)
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(folder))
    yield importlib.import_module(name)
  registry.unregister("mask")
  del sys.modules[name]


def key_of(module: ModuleType, **options: Any) -> Any:
  plain = trees.params("float32")
  return registry.build("mask", options).keygen(Secret.generate(), plain, None)


@pytest.mark.laws
@pytest.mark.parametrize("dtype", trees.DTYPES)
def test_it_keeps_the_laws(module: ModuleType, dtype: str) -> None:
  laws.check(registry.build("mask", {}), trees.params(dtype))


def test_it_has_near_keys_and_a_key_space(module: ModuleType) -> None:
  key, rng = key_of(module, words=2), np.random.default_rng(0)
  near = near_keys.near_key(key, 5, rng)
  differ = np.asarray(key.words ^ near.words).view(np.uint8)
  assert np.unpackbits(differ).sum() == 5
  assert near_keys.max_distance(key) == 64
  assert key_space.entropy_bits(key) == 64
  assert keys.size_in_bytes(key) == 8
  guesses = [near_keys.random_key(key, rng).words.tolist() for _ in range(4)]
  assert len(np.unique(guesses, axis=0)) == 4


def test_its_key_files_name_the_module(
  module: ModuleType, tmp_path: pathlib.Path, children: Server
) -> None:
  keys.save(tmp_path / "key", key_of(module))
  assert isinstance(keys.load(tmp_path / "key"), module.MaskKey)
  # A process that has not imported the module is told what to import.
  code = "import keyjax, sys; keyjax.keys.load(sys.argv[1])"
  other = children.start(code, tmp_path / "key")
  assert other.wait() == 1
  assert f"'{module.__name__}.MaskKey', which is not loaded" in other.err()


def test_attackers_see_its_public_options(module: ModuleType) -> None:
  options = {"label": "of ours"}
  target = toys.target(registry.build("mask", options), "mask", options=options)
  seen = views.view(target, Attacker())
  assert seen.options == {"words": 4}
  assert views.view(target, Attacker(knows_scheme=False)).options == {}


def config() -> ConfigDict:
  made = configs.base()
  made.name, made.model = "tiny", "mlp"
  made.model_args.hidden = (16,)
  made.num_train, made.num_test = 64, 40
  made.train.update(batch_size=64, epochs=12.0, learning_rate=2e-2)
  made.evaluate.update(
    batch_size=40, wrong_keys=2, wrong_images=20, distance_keys=1
  )
  configs.set_schemes(
    made,
    mask=configs.scheme("mask", "Mask"),
    int8=configs.scheme("mask", "Mask, int8", int8=True),
    both=configs.scheme(
      "chain",
      "AdvParams, then mask",
      parts=(("adv_params", {"max_steps": 1}), ("mask", {"words": 1})),
    ),
  )
  return made


@pytest.fixture(scope="module")
def folder(
  module: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """Return the folder of a main job and of an attack job after it."""
  found = tmp_path_factory.mktemp("job") / "run"
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    main.run(config(), str(found))
    attacked = config()
    few = {"fraction": 0.2, "steps": 4, "points": 2}
    configs.set_attacks(
      attacked,
      tune=configs.attack("fine_tune", "fine-tuning", **few),
      guess=configs.attack("random_keys", "random keys", **few),
    )
    attack_job.run(attacked, str(found))
  return found


def test_the_main_job_judges_it(folder: pathlib.Path) -> None:
  rows = json.loads((folder / "results.json").read_text())
  for label, size in (("mask", 16), ("int8", 16)):
    found = [r for r in rows if r["scheme"] == label]
    accuracy = [r for r in found if r["metric"] == "accuracy"]
    conditions = [r["condition"] for r in accuracy]
    assert conditions[:4] == ["right", "api", "no_key", "wrong"]
    assert {r["unit"] for r in accuracy if r["condition"] == "near"} == {"bits"}
    (stored,) = (r["value"] for r in found if r["metric"] == "key_bytes")
    assert stored == size
  right = {r["scheme"]: r["value"] for r in rows if r["condition"] == "right"}
  plain = next(r["value"] for r in rows if r["condition"] == "plain")
  assert right["mask"] == right["both"] == plain


def test_the_report_shows_it(folder: pathlib.Path) -> None:
  page = (folder / "report.html").read_text()
  for title in ("Mask, int8", "AdvParams, then mask"):
    assert title in page


def test_the_attack_matrix_has_its_rows(folder: pathlib.Path) -> None:
  lines = (folder / "rows.jsonl").read_text().splitlines()
  played = {(r["scheme"], r["attack"]) for r in map(json.loads, lines)}
  assert {("mask", "tune"), ("mask", "guess"), ("int8", "guess")} <= played
  # A chain's key may be made from trained params, which a guesser lacks.
  assert ("both", "tune") in played and ("both", "guess") not in played
  assert "Mask" in (folder / "attacks.html").read_text()


def test_its_card_states_its_class(folder: pathlib.Path) -> None:
  card = cards.make(cards.read_rows(folder / "results.json"), "mask")
  (part,) = card["scheme"]["parts"]
  assert part["class"] == "obfuscation"


def test_a_name_is_registered_once(module: ModuleType) -> None:
  with pytest.raises(ValueError, match="'mask' is registered already"):
    registry.register("mask", module.mask)
  with pytest.raises(ValueError, match="'chain' is registered already"):
    registry.register("chain", module.mask)
  # A mechanism that is classified, and is no scheme of that name.
  with pytest.raises(ValueError, match="'pixel_shuffle' is registered already"):
    registry.register("pixel_shuffle", module.mask)
  with pytest.raises(ValueError, match="'deep_lock' has a security class"):
    registry.classify("deep_lock", registry.CRYPTOGRAPHIC)


def test_names_of_built_in_schemes_are_refused_before_they_are_imported() -> (
  None
):
  names = ["deep_lock", "ffx", "pixel_shuffle", "patch_embedding"]
  code = """
import sys
from keyjax.schemes import registry
assert "keyjax.schemes.deep_lock" not in sys.modules
for name in sys.argv[1:]:
  try:
    registry.register(name, lambda: None)
  except ValueError as error:
    print(error)
"""
  done = subprocess.run(
    [sys.executable, "-c", code, *names],
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.splitlines() == [
    f"a scheme {name!r} is registered already" for name in names
  ]
