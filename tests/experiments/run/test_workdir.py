"""The folders of a run: separate keys, one run for each folder, no lost key."""

import json
import os
import pathlib
import stat

import pytest
from ml_collections import ConfigDict

from experiments.run.config import base, scheme, set_schemes
from experiments.run.workdir import Workdir, WorkdirError
from keyjax import keys, private_files
from tests.checkpoint.children import Server


def config(**fields: object) -> ConfigDict:
  made = base()
  set_schemes(made, shf=scheme("shf", block_size=4))
  made.update(fields)
  return made


def test_a_run_resumes_with_its_own_secret(tmp_path: pathlib.Path) -> None:
  first = Workdir(config(), str(tmp_path / "run"))
  assert first.folder("shf").is_dir()
  second = Workdir(config(), str(tmp_path / "run"))
  assert first.secret == second.secret
  assert first.key_file("shf") == second.key_file("shf")


def test_runs_have_ids_so_that_keys_never_mix(tmp_path: pathlib.Path) -> None:
  home = str(tmp_path / "keys")
  a = Workdir(config(), str(tmp_path / "a"), home)
  b = Workdir(config(), str(tmp_path / "b"), home)
  assert a.key_path != b.key_path
  assert a.key_path.parent == b.key_path.parent == tmp_path / "keys"
  assert not a.secret == b.secret
  # The same place again, after the run was deleted.
  (tmp_path / "a" / "run.json").unlink()
  again = Workdir(config(), str(tmp_path / "a"), home)
  assert again.key_path != a.key_path
  assert not again.secret == a.secret


def test_keys_are_private_and_next_to_the_folder(
  tmp_path: pathlib.Path,
) -> None:
  run = Workdir(config(), str(tmp_path / "run"))
  assert run.key_path.parent == tmp_path / "run.keys"
  file = run.key_path / "secret"
  assert stat.S_IMODE(file.stat().st_mode) == 0o600
  assert stat.S_IMODE(run.key_path.stat().st_mode) == 0o700
  keys.save(run.key_file("shf"), ())
  assert stat.S_IMODE(run.key_file("shf").stat().st_mode) == 0o600
  secret = bytes.fromhex(file.read_text())
  for path in (tmp_path / "run").rglob("*"):
    if path.is_file():
      text = path.read_bytes()
      assert secret not in text and secret.hex().encode() not in text
  file.chmod(0o644)
  with pytest.raises(WorkdirError, match="mode 644.*chmod 600"):
    Workdir(config(), str(tmp_path / "run"))


@pytest.mark.parametrize(
  "path, value",
  [
    ("train.epochs", 7.0),
    ("dataset", "mnist"),
    ("evaluate.wrong_keys", 3),
    ("schemes.shf.args.block_size", 2),
  ],
)
def test_another_run_is_refused_by_the_field_that_differs(
  path: str, value: object, tmp_path: pathlib.Path
) -> None:
  Workdir(config(), str(tmp_path / "run"))
  other = config()
  target = other
  name = path.split(".")[-1]
  for part in path.split(".")[:-1]:
    target = target[part]
  assert target[name] != value
  with target.unlocked():
    target[name] = value
  before = (tmp_path / "run" / "run.json").read_text()
  with pytest.raises(WorkdirError, match=f"differs at {path};"):
    Workdir(other, str(tmp_path / "run"))
  assert (tmp_path / "run" / "run.json").read_text() == before


def test_one_more_scheme_is_another_run(tmp_path: pathlib.Path) -> None:
  Workdir(config(), str(tmp_path / "run"))
  other = config()
  set_schemes(other, hpnn=scheme("hpnn"))
  with pytest.raises(WorkdirError, match="differs at schemes.hpnn;"):
    Workdir(other, str(tmp_path / "run"))


def test_foreign_files_are_refused_and_left_alone(
  tmp_path: pathlib.Path,
) -> None:
  (tmp_path / "thesis.tex").write_text("years of work")
  with pytest.raises(WorkdirError, match=r"other files \(thesis.tex\)"):
    Workdir(config(), str(tmp_path))
  assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": 3}', "null"])
def test_a_run_file_of_another_program(
  text: str, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "run.json").write_text(text)
  with pytest.raises(WorkdirError, match="run.json was not written by a run"):
    Workdir(config(), str(tmp_path))


@pytest.mark.parametrize("inside", ["", "keys", "a/b", "../run/keys"])
def test_keys_inside_the_folder_are_refused(
  inside: str, tmp_path: pathlib.Path
) -> None:
  folder = tmp_path / "run"
  with pytest.raises(WorkdirError, match="must not be in the workdir"):
    Workdir(config(), str(folder), f"{folder}/{inside}")
  assert not folder.exists()


def test_keys_inside_the_folder_through_a_link_are_refused(
  tmp_path: pathlib.Path,
) -> None:
  (tmp_path / "run").mkdir()
  (tmp_path / "link").symlink_to(tmp_path / "run")
  with pytest.raises(WorkdirError, match="must not be in the workdir"):
    Workdir(config(), str(tmp_path / "run"), str(tmp_path / "link" / "keys"))
  with pytest.raises(WorkdirError, match="must not be in the workdir"):
    Workdir(config(), str(tmp_path / "link"), str(tmp_path / "run" / "keys"))


def test_a_lost_secret_is_not_replaced(tmp_path: pathlib.Path) -> None:
  run = Workdir(config(), str(tmp_path / "run"))
  run.folder("shf")
  (run.key_path / "secret").unlink()
  with pytest.raises(WorkdirError, match="secret is not at .*--keydir"):
    Workdir(config(), str(tmp_path / "run"))
  assert not (run.key_path / "secret").exists()
  with pytest.raises(WorkdirError, match="secret is not at"):
    Workdir(config(), str(tmp_path / "run"), str(tmp_path / "elsewhere"))


def test_a_file_instead_of_the_folder(tmp_path: pathlib.Path) -> None:
  (tmp_path / "run").write_text("a file")
  for folder in ("run", "run/below"):
    with pytest.raises(WorkdirError, match="cannot use --workdir=.*run"):
      Workdir(config(), str(tmp_path / folder))
  assert (tmp_path / "run").read_text() == "a file"


def test_an_unwritable_folder_for_keys(tmp_path: pathlib.Path) -> None:
  for name, mode in (("file", 0o600), ("folder", 0o500)):
    place = tmp_path / name
    if name == "file":
      place.write_text("a file")
    else:
      place.mkdir()
    place.chmod(mode)
    if name == "folder" and os.access(place, os.W_OK):
      continue  # Root may write anywhere.
    with pytest.raises(WorkdirError, match=f"cannot use --keydir=.*{name}/k"):
      Workdir(config(), str(tmp_path / "run"), str(place / "k"))
    assert not (tmp_path / "run").exists()


def test_an_unwritable_folder(tmp_path: pathlib.Path) -> None:
  with pytest.raises(WorkdirError, match="cannot use --workdir=/proc/keyjax"):
    Workdir(config(), "/proc/keyjax", str(tmp_path / "keys"))


def test_run_file_holds_the_config_and_an_id(tmp_path: pathlib.Path) -> None:
  run = Workdir(config(), str(tmp_path / "run"))
  held = json.loads((tmp_path / "run" / "run.json").read_text())
  assert sorted(held) == ["config", "id", "secret"]
  assert held["secret"] == ""
  assert held["id"] == run.key_path.name
  assert held["config"]["schemes"]["shf"]["args"] == {"block_size": 4}


def test_a_folder_that_another_process_works_in(
  tmp_path: pathlib.Path, children: Server
) -> None:
  folder = tmp_path / "run"
  mine = Workdir(base(), str(folder))
  code = (
    "import sys\n"
    "from experiments.run import config, workdir\n"
    "workdir.Workdir(config.base(), sys.argv[1])"
  )
  other = children.start(code, folder)
  assert other.wait() and "another process works in" in other.err()
  again = Workdir(base(), str(folder))  # This process may open it again.
  assert again.key_path == mine.key_path
  del mine
  assert children.start(code, folder).wait()
  del again
  last = children.start(code, folder)
  assert last.wait() == 0, last.err()


def test_only_one_of_two_simultaneous_runs_claims_the_folder(
  tmp_path: pathlib.Path,
) -> None:
  held = private_files.lock_folder(tmp_path)
  assert held is not None
  with pytest.raises(WorkdirError, match="another process works in"):
    Workdir(base(), str(tmp_path))
  assert not [*tmp_path.iterdir()], "an id without a key"
  os.close(held)
  Workdir(base(), str(tmp_path))
