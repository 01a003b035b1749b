"""Broadcast encryption, with up to a million licensees."""

import json
import math
import os
import random

import pytest

from keyjax import Secret, keyring
from keyjax.keyring import encoding
from keyjax.keyring.recipients import symmetric

DEPTH, MANY = 20, 2**20
CONTEXT = b"context"


def keys_of(device):
  """Return the keys of a licensee, from their key file."""
  data = device.reveal()[4:]
  count = device.leaf.bit_length()
  return [Secret(data[i : i + 32]) for i in range(0, 32 * count, 32)]


def covered(depth, nodes):
  """Return the leaves below some nodes, and check that none occurs twice."""
  leaves = []
  for node in nodes:
    up = depth + 1 - node.bit_length()
    leaves += range((node << up) - 2**depth, ((node + 1) << up) - 2**depth)
  assert len(leaves) == len(set(leaves))
  return set(leaves)


def test_covers_contain_all_others_and_are_small():
  """All sets of revoked licensees of small trees."""
  for depth in range(4):
    everybody = range(2**depth)
    for chosen in range(2 ** len(everybody)):
      revoked = {i for i in everybody if chosen >> i & 1}
      nodes = keyring.cover(depth, revoked)
      assert covered(depth, nodes) == set(everybody) - revoked
      assert nodes == sorted(nodes)
      if revoked:
        r = len(revoked)
        assert len(nodes) <= r * math.log2(len(everybody) / r) + 1e-9


def spread(r):
  """Return r licensees at maximum distance, which have the longest cover."""
  return range(0, MANY, MANY // r)


@pytest.mark.parametrize("r", [1, 2, 64, 1000, 1024])
def test_header_size_at_a_million(r):
  bound = r * math.log2(MANY / r)
  for revoked in (
    random.Random(r).sample(range(MANY), r),
    range(r),
    spread(r),
  ):
    nodes = keyring.cover(DEPTH, revoked)
    assert 0 < len(nodes) <= bound
  if r & (r - 1) == 0:  # The bound is attained at maximum distance.
    assert len(keyring.cover(DEPTH, spread(r))) == bound


@pytest.mark.slow
def test_a_thousand_of_a_million_are_excluded():
  chosen = random.Random(1)
  revoked = chosen.sample(range(MANY), 1000)
  tree = keyring.Broadcast(Secret.generate(), DEPTH).revoke(revoked)
  data_key = os.urandom(32)
  envelope = keyring.seal_envelope(data_key, [tree], checkpoint="model-a")
  assert len(envelope) < 1000 * math.log2(MANY / 1000) * 60
  (stanza,) = json.loads(envelope)["recipients"]
  context = b"keyjax/envelope/1/model-a"
  for licensee in revoked:
    with pytest.raises(keyring.KeyringError, match=f"{licensee} was revoked"):
      tree.device(licensee).unwrap(stanza, context)
  others = set(chosen.sample(range(MANY), 300)) - set(revoked)
  for licensee in others:
    assert tree.device(licensee).unwrap(stanza, context) == data_key
  device = tree.device(max(others))
  assert keyring.open_envelope(envelope, [device]).data_key == data_key
  with pytest.raises(keyring.KeyringError, match="was revoked"):
    keyring.open_envelope(envelope, [tree.device(revoked[0])])


def test_the_revoked_together_have_no_key_that_was_used():
  """Their keys are tried with every wrapped key, not only those for them."""
  revoked = [0, 1, 5, 14]
  tree = keyring.Broadcast(Secret.generate(), 4, revoked)
  stanza = tree.wrap(bytes(32), CONTEXT)
  data = encoding.decode(stanza["wrapped"])
  wraps = [data[i : i + 40] for i in range(0, len(data), 40)]
  assert len(wraps) == len(keyring.cover(4, revoked))
  stolen = [key for i in revoked for key in keys_of(tree.device(i))]
  opened = 0
  for key in stolen:
    for wrap in wraps:
      try:
        symmetric.unwrap_key(key, wrap, CONTEXT)
        opened += 1
      except keyring.CannotOpen:
        pass
  assert opened == 0
  # Control: the keys of another licensee open exactly one of them.
  found = 0
  for key in keys_of(tree.device(7)):
    for wrap in wraps:
      try:
        found += symmetric.unwrap_key(key, wrap, CONTEXT) == bytes(32)
      except keyring.CannotOpen:
        pass
  assert found == 1


def test_devices_have_only_the_keys_of_their_path():
  tree = keyring.Broadcast(Secret.generate(), DEPTH)
  a, b = tree.device(0), tree.device(1)
  keys, others = keys_of(a), keys_of(b)
  assert len(keys) == DEPTH + 1 and a.licensee == 0 and b.licensee == 1
  assert keys[0] != others[0] and keys[1] == others[1]
  again = keyring.DeviceKeys.read(a.reveal())
  assert again.reveal() == a.reveal()
  assert again.id == a.id and again.leaf == a.leaf
  other = keyring.Broadcast(Secret.generate(), DEPTH)
  assert other.id != tree.id
  stanza = other.wrap(bytes(32), CONTEXT) | {"id": other.id}
  assert a.unwrap(stanza, CONTEXT) is None
  with pytest.raises(keyring.CannotOpen):
    a.unwrap(stanza | {"id": tree.id}, CONTEXT)


def test_trees_of_one_licensee_and_of_revoked_ones_only():
  tree = keyring.Broadcast(Secret.generate(), 0)
  stanza = tree.wrap(bytes(32), CONTEXT) | {"id": tree.id}
  assert tree.device(0).unwrap(stanza, CONTEXT) == bytes(32)
  with pytest.raises(keyring.KeyringError, match="every licensee"):
    tree.revoke([0]).wrap(bytes(32), CONTEXT)


def test_numbers_out_of_range_are_refused():
  root = Secret.generate()
  for depth in (-1, 31):
    with pytest.raises(keyring.KeyringError, match="a depth of 0 to 30"):
      keyring.Broadcast(root, depth)
  tree = keyring.Broadcast(root, 3)
  for make in (
    tree.device,
    lambda i: tree.revoke([i]),
    lambda i: keyring.Broadcast(root, 3, [i]),
  ):
    for index in (-1, 8):
      with pytest.raises(keyring.KeyringError, match="there are 0 to 7"):
        make(index)


def test_altered_stanzas_do_not_open():
  tree = keyring.Broadcast(Secret.generate(), 3, [0])
  device = tree.device(7)
  stanza = tree.wrap(bytes(32), CONTEXT) | {"id": tree.id}
  nodes, wrapped = (encoding.decode(stanza[x]) for x in ("nodes", "wrapped"))
  for fields in (
    {"nodes": nodes[:-1]},
    {"nodes": nodes[4:]},
    {"wrapped": wrapped[:-40]},
    {"wrapped": wrapped + bytes(40)},
    {"wrapped": wrapped[40:] + wrapped[:40]},
    {"nodes": nodes[4:] + nodes[:4]},
  ):
    changed = {k: encoding.encode(v) for k, v in fields.items()}
    with pytest.raises(keyring.CannotOpen):
      device.unwrap(stanza | changed, CONTEXT)
  none = {"nodes": "", "wrapped": ""}
  with pytest.raises(keyring.KeyringError, match="7 was revoked"):
    device.unwrap(stanza | none, CONTEXT)


def test_malformed_device_keys_are_refused():
  good = keyring.Broadcast(Secret.generate(), 3).device(2).reveal()
  for data in (b"", bytes(4), good[:40], good[:132], bytes(200), b"\xff" * 300):
    with pytest.raises(keyring.KeyringError, match="not the keys of one lic"):
      keyring.DeviceKeys.read(data)


def test_a_rewrap_readmits_a_licensee_only_if_asked():
  owner = keyring.SymmetricKey(Secret.generate())
  tree = keyring.Broadcast(Secret.generate(), 3)

  def sealed(revoked):
    return keyring.seal_envelope(
      bytes(32), [owner, tree.revoke(revoked)], checkpoint="m/1"
    )

  def rewrap(envelope, revoked, wrapped=lambda x: x, **more):
    people = [owner, wrapped(tree.revoke(revoked))]
    return keyring.rewrap_envelope(envelope, [owner], people, **more)

  sets = [
    {i for i in range(8) if chosen >> i & 1} for chosen in range(0, 255, 11)
  ]
  for before in sets:
    envelope = sealed(before)
    for after in sets:
      if before <= after:
        rewrap(envelope, after)
        continue
      again = "|".join(map(str, before - after))
      with pytest.raises(keyring.KeyringError, match=f"licensee ({again}) of"):
        rewrap(envelope, after)
  envelope = sealed({3, 5})
  short = lambda x: keyring.Expiring(x, "2999-01-01T00:00:00Z")  # noqa: E731
  with pytest.raises(keyring.KeyringError, match="only `reinstate` gives"):
    rewrap(envelope, {3}, short)
  back = rewrap(envelope, {3}, reinstate=True)
  assert keyring.open_envelope(back, [tree.device(5)]).data_key == bytes(32)
  kept = keyring.existing_recipients(envelope, [owner])
  keyring.rewrap_envelope(envelope, [owner], kept)
