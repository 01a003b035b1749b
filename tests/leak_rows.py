"""Rows of what models tell of their data, as the experiments write them."""

from experiments.recordings import figures
from experiments.run import results
from tests.cards import BASE

SCHEME = {
  "scheme": "hpnn",
  "title": "HPNN",
  "mechanism": "hpnn",
  "options": {},
}
NONE = {
  "scheme": "none",
  "title": "no lock",
  "mechanism": "identity",
  "options": {},
}
SCORE = {"value": 0.5, "low": 0.4, "high": 0.6, "interval": "a bootstrap"}


def membership(names, condition, **fields):
  """Return a row of `experiments.privacy`."""
  row = results.row(
    BASE | names,
    condition=condition,
    metric="auc",
    training="none",
    attack="lira",
    attack_title="LiRA",
    reply="",
    reply_title="",
    examples=600,
    draw="at random from the training images",
    models=3,
    members=288,
    others=312,
    shadows=64,
    shadows_used=64,
    shadow_models="same key",
    label_noise=0.2,
    nan=7.0,
    **SCORE,
  )
  return row | fields


def copy_of(names, condition, reply="all", queries=40, **fields):
  """Return a row of `experiments.copies`."""
  row = results.row(
    BASE | names,
    condition=condition,
    metric="agreement",
    part="knockoff",
    reply=reply,
    reply_title=f"answers {reply}",
    query_set="real",
    set_title="real inputs",
    queries=queries,
    victims=3,
    victim_examples=689,
    victim_accuracy=0.96,
    inputs=45,
    test_images=360,
    lost=0.0,
    **SCORE,
  )
  return row | fields


def recording(part, **fields):
  """Return a figure of `experiments.recording`, over two seeds."""
  row = results.row(
    BASE | SCHEME,
    title="MLP, relu",
    scheme_title="HPNN",
    condition="right",
    part=part,
    attack="x",
    attack_title="a search",
    knows="the weights",
    scene="1 image, HPNN" if part == "gradients" else "",
    trained=False,
    unrelated=200,
    images=4,
    answers="told",
    passes=2,
    members=300,
    others=310,
    draw="at random, too",
    label_noise=0.1,
    nan=0,
  )
  seeds = [row | fields | {"seed": i, "value": i / 2} for i in range(2)]
  return figures.over_seeds(seeds)[0]


def rows():
  """Return rows of each kind, of one scheme and of the plain model."""
  tpr = {"metric": "tpr_0.001", "resolved": False}
  service = {"reply": "label", "reply_title": "the label alone"}
  return [
    membership(SCHEME, "right"),
    membership(SCHEME, "right", **tpr),
    membership(SCHEME, "right", attack="gap", attack_title="gap", value=0.45),
    membership(SCHEME, "no_key", shadows_used=0, shadow_models="none"),
    membership(NONE, "plain", shadow_models="plain"),
    membership(NONE, "api", shadow_models="plain", **service),
    membership(SCHEME, "right", metric="test_accuracy", attack=""),
    membership(SCHEME, "right", metric="epsilon_bound"),
    *(copy_of(SCHEME, "right", queries=n) for n in (40, 1200)),
    *(
      copy_of(NONE, "plain", reply, queries=n)
      for reply in ("all", "swapped")
      for n in (40, 1200)
    ),
    copy_of(SCHEME, "no_key", metric="accuracy"),
    copy_of(SCHEME, "no_key", part="rebuild"),
    recording("gradients", metric="named"),
    recording("gradients", metric="psnr"),
    recording("gradients", metric="mse"),
    recording("online", metric="auc"),
    recording("online", metric="tpr_0.01", resolved=True),
  ]
