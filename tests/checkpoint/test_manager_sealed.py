"""Each item of a sealed step has the guarantees of a sealed checkpoint."""

import pathlib
import shutil
from typing import Any

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from orbax.checkpoint.checkpoint_managers import preservation_policy

from keyjax import checkpoint, keyring
from tests import trees
from tests.checkpoint.items import (
  METRICS,
  OTHER,
  OWNER,
  PARAMS,
  SEALED,
  SIGNER,
  items,
  pipeline,
)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Two steps of a run with all kinds of items, sealed and signed."""
  folder = tmp_path_factory.mktemp("items") / "run"
  data = grain.checkpoint.CheckpointSave(pipeline())
  more = {"metadata": {"needle_run": "needle-run"}, **SEALED}
  with checkpoint.Manager(folder, run="a", name="net", **more) as manager:
    for step in (1, 2):
      args = items(step, needle_item=data)
      manager.save(step, args=args, metrics=METRICS)
  return folder


def wanted(name: str) -> Any:
  if name != "needle_item":
    return ocp.args.Composite(**{name: None})
  return ocp.args.Composite(
    needle_item=grain.checkpoint.CheckpointRestore(pipeline())
  )


EACH = pytest.mark.parametrize(
  "name", ["params", "opt_state", "config", "needle_item"]
)


def copied(sealed: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
  return pathlib.Path(shutil.copytree(sealed, to / "run"))


def test_nothing_of_a_sealed_step_is_in_the_clear(sealed: pathlib.Path) -> None:
  hidden = (
    "needle",
    "0.1234567",
    "params",
    "opt_state",
    "kernel",
    "config",
    "iterator",
    "next_index",
    "keyjax.step",
  )
  files = [file for file in sealed.rglob("*") if file.is_file()]
  assert len(files) > 10
  for file in files:
    text = f"{file.relative_to(sealed)} ".encode() + file.read_bytes()
    found = [word for word in hidden if word.encode() in text]
    assert not found, (file, found)
  step = sealed / "1"
  assert set(checkpoint.inspect(step)) == {
    "format",
    "version",
    "bytes",
    "envelope",
  }
  assert checkpoint.verify(step, OWNER, verify_key=SIGNER.public_key()) == []
  record = checkpoint.read_metadata(step, OWNER)["keyjax.step"]
  assert record["metrics"] == METRICS


@EACH
def test_each_item_has_the_guarantees_of_its_step(
  name: str, sealed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  folder = copied(sealed, tmp_path)

  def restore(step: int, **options: Any) -> Any:
    people = SEALED | {"run": "a", "name": "net"} | options
    with checkpoint.Manager(folder, **people) as manager:
      return manager.restore(args=wanted(name), step=step)

  restore(1)
  refusals: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"identities": OTHER}, keyring.KeyringError, "no key given opens it"),
    ({"identities": ()}, keyring.KeyringError, "has no identities"),
    ({"run": "b"}, checkpoint.CheckpointContentError, "of run a, not of run b"),
    ({"name": "x"}, checkpoint.CheckpointContentError, "of model net, not of"),
    (
      {"verify_key": ed25519.Ed25519PrivateKey.generate().public_key()},
      checkpoint.CheckpointSignatureError,
      "sign",
    ),
  ]
  for options, error, message in refusals:
    with pytest.raises(error, match=message):
      restore(1, **options)
  # That of another step, whole or its sealed arrays alone.
  shutil.rmtree(folder / "1/sealed")
  shutil.copytree(folder / "2/sealed", folder / "1/sealed")
  with pytest.raises(checkpoint.CheckpointContentError, match="another check"):
    restore(1)
  shutil.rmtree(folder / "1")
  shutil.copytree(folder / "2", folder / "1")
  with pytest.raises(checkpoint.CheckpointContentError, match="of step 2, not"):
    restore(1)
  restore(2)


def test_metrics_are_read_only_with_the_guarantees(
  sealed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  folder = copied(sealed, tmp_path)
  more: Any = {"best_fn": lambda x: x["needle_metric"], "run": "a", **SEALED}
  with checkpoint.Manager(folder, **more) as manager:
    assert manager.best_step() == 2
  # Without a key nobody knows which one is the best: none is removed for it.
  for key in (OTHER, ()):
    with pytest.raises(keyring.KeyringError):
      checkpoint.Manager(folder, **more | {"identities": key})
  policy = preservation_policy.BestN(get_metric_fn=more["best_fn"], n=1)
  with checkpoint.Manager(
    folder,
    recipients=OWNER,
    signer=SIGNER,
    run="a",
    preservation_policy=policy,
  ) as manager:
    manager.save(3, PARAMS, metrics={"needle_metric": -1.0})
  with checkpoint.Manager(folder, **more) as manager:
    assert manager.all_steps() == [1, 2, 3]
    manager.delete(3)
  shutil.rmtree(folder / "2")
  shutil.copytree(folder / "1", folder / "2")
  with pytest.warns(UserWarning, match="step 2 is left out .* of step 1"):
    manager = checkpoint.Manager(folder, **more)
  with manager:
    assert manager.best_step() == 1


@pytest.mark.parametrize(
  "people", [pytest.param({}, marks=pytest.mark.slow), SEALED]
)
def test_items_and_metrics_in_a_bucket(people: Any, bucket: str) -> None:
  more: Any = {"best_fn": lambda x: x["loss"], **people}
  with checkpoint.Manager(bucket, 1, **more) as manager:
    for step, value in enumerate((9, 8, 7)):
      data = grain.checkpoint.CheckpointSave(pipeline())
      args = items(step, data=data)
      manager.save(step, args=args, metrics={"loss": value})
    manager.delete(2)
    assert manager.all_steps() == [0]
  with checkpoint.Manager(bucket, **more) as manager:
    assert manager.best_step() == 0
    data = grain.checkpoint.CheckpointRestore(pipeline())
    found = manager.restore(
      args=ocp.args.Composite(params=None, config=None, data=data)
    )
    assert found.config["value"] == 0
    trees.assert_same_bits(found.params, PARAMS)


def test_a_folder_of_the_earlier_layout(tmp_path: pathlib.Path) -> None:
  """A sealed step without a record, and with metadata of its own."""
  folder = tmp_path / "run"
  more: Any = {"recipients": OWNER, "identities": OWNER}
  checkpoint.save(folder / "1", PARAMS, OWNER, step=1)
  checkpoint.save(folder / "2", PARAMS, OWNER, step=2, metadata={"items": 3})
  with checkpoint.Manager(folder, **more) as manager:
    for step, custom in ((1, {}), (2, {"items": 3})):
      trees.assert_same_bits(manager.restore(PARAMS, step), PARAMS)
      found = manager.metadata(step)
      assert (found.items, found.metrics) == ({"state": "tree"}, None)
      assert found.custom_metadata == custom
    manager.save(3, args=items(0))
    assert manager.restore(args=ocp.args.Composite(config=None)).config
  # What a step without a record says has not changed.
  with checkpoint.Manager(folder, **more) as manager:
    manager.save(4, PARAMS)
  assert checkpoint.read_metadata(folder / "4", OWNER) == {}


@pytest.mark.parametrize(
  "record",
  [
    3,
    {"items": {}},
    {"items": {"a/b": "tree"}},
    {"items": {"a": "code"}},
    {"metrics": {"a": "b"}},
    {"metrics": {"a": 10**400}},
    {"custom_metadata": []},
  ],
)
def test_a_record_that_a_recipient_forged(
  record: Any, tmp_path: pathlib.Path
) -> None:
  metadata = {"keyjax.step": record}
  checkpoint.save(tmp_path / "1", PARAMS, OWNER, step=1, metadata=metadata)
  more: Any = {"recipients": OWNER, "identities": OWNER}
  with checkpoint.Manager(tmp_path, **more) as manager:
    with pytest.raises(checkpoint.CheckpointContentError):
      manager.restore(PARAMS)


@pytest.mark.parametrize("kind", ["tree", "json", "iterator"])
def test_items_that_a_recipient_forged(
  kind: str, tmp_path: pathlib.Path
) -> None:
  """Names without items, and bytes that are not JSON."""
  metadata = {"keyjax.step": {"items": dict.fromkeys("abc", kind)}}
  tree: Any = {"a": np.frombuffer(b"\xff{", np.uint8), "c": {"d": 1.5}}
  checkpoint.save(tmp_path / "1", tree, OWNER, step=1, metadata=metadata)
  more: Any = {"recipients": OWNER, "identities": OWNER}
  with checkpoint.Manager(tmp_path, **more) as manager:
    for name in "abc" if kind != "tree" else "b":
      with pytest.raises(checkpoint.CheckpointContentError):
        arg = None
        if kind == "iterator":
          arg = grain.checkpoint.CheckpointRestore(pipeline())
        manager.restore(args=ocp.args.Composite(**{name: arg}))
