"""An attack is one new file: no other line changes."""

import pathlib
import sys

import jax
import pytest

from experiments import attack as command
from experiments.attacking import plan
from experiments.run import config as configs
from keyjax.attacks import any_scheme, registry

SOURCE = '''
"""Claim the stolen file as it is."""

from keyjax.attacks import registry
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal, Model


@registry.register(
  "as_it_is",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(knows_scheme=False),
  ({"sign": 1}, {"sign": -1}),
)
def as_it_is(view, budget, sign=1):
  def forward(params, images):
    return sign * view.apply_fn(params, images)

  for step in budget.marks():
    yield Claim(Model(view.stolen(), forward), Cost(steps=step))
'''


def test_one_new_file_is_an_attack(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Registry, checks of a config, a row with its sweep, and the report."""
  (tmp_path / "attacks").mkdir()
  (tmp_path / "attacks" / "brand_new.py").write_text(SOURCE)
  config = configs.base()
  config.name = "tiny"
  config.model = "mlp"
  config.model_args.hidden = (16,)
  config.train.epochs = 1.0
  config.train.learning_rate = 1e-2
  config.train.batch_size = 64
  configs.set_schemes(config, none=configs.scheme("identity", "no lock"))
  spec = configs.attack("as_it_is", "as it is", steps=2, points=2)
  configs.set_attacks(config, new=spec)
  with pytest.raises(ValueError, match="unknown attack 'as_it_is'"):
    plan.check(config)

  # As if the file were in keyjax/attacks/any_scheme/.
  folders = [*any_scheme.__path__, str(tmp_path / "attacks")]
  monkeypatch.setattr(any_scheme, "__path__", folders)
  module = "keyjax.attacks.any_scheme.brand_new"
  with (
    registry.temporary(),
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    registry.load.cache_clear()
    try:
      assert registry.get("as_it_is").run.__module__ == module
      assert "as_it_is" in {a.name for a in registry.applicable("unknown")}
      assert list(plan.pairs(config)) == [("none", "new")]
      (row,) = command.run(config, str(tmp_path / "run"))
    finally:
      sys.modules.pop(module, None)
  assert row["game"] == "as_it_is" and row["value"] == row["right"]
  assert row["setting"] == {"sign": 1} and len(row["curve"]) == 2
  assert "as it is" in (tmp_path / "run" / "attacks.html").read_text()
  with pytest.raises(ValueError, match="unknown attack 'as_it_is'"):
    registry.get("as_it_is")
