"""Charts show the numbers that they are given."""

import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import PIL.Image

from experiments.report import charts


def test_marks_are_drawn_at_their_accuracies():
  levels = charts.Levels(charts.Estimate(0.9, 0.85, 0.95), 0.1)
  value = charts.Estimate
  wrong = [0.1, 0.25, 0.4375]
  drawn = charts.keys(levels, value(0.8), value(0.3), value(0.2), wrong)
  tree = ElementTree.fromstring(drawn)
  dots = [c.get("cx") for c in tree.iter("circle") if c.get("class") == "pale"]
  assert dots == ["10.00%", "25.00%", "43.75%"]
  right = [c for c in tree.iter("circle") if c.get("class") == "dot"]
  assert [c.get("cx") for c in right] == ["80.00%"]
  assert [s.get("x") for s in tree.findall("svg")] == ["30.00%"]
  chance = [x for x in tree.iter("line") if x.get("class") == "chance"]
  assert chance[0].get("x1") == chance[0].get("x2") == "10.00%"


def test_the_spread_counts_every_key():
  levels = charts.Levels(charts.Estimate(0.9))
  drawn = charts.spread([0.0, 0.01, 0.5, 1.0], charts.Estimate(0.4), levels)
  bars = ElementTree.fromstring(drawn).findall(".//rect")
  counts = [int(b.find("title").text.split()[0]) for b in bars]
  assert counts == [2, 1, 1]


def test_distance_is_on_a_log_scale():
  points = [charts.Near(d, [a]) for d, a in ((1, 1.0), (10, 0.5), (100, 0.0))]
  levels = charts.Levels(charts.Estimate(0.9))
  tree = ElementTree.fromstring(charts.near(points, "bits", levels))
  means = [c for c in tree.iter("circle") if c.get("class") == "dot"]
  assert [c.get("cx") for c in means] == ["0.00%", "50.00%", "100.00%"]
  assert [c.get("cy") for c in means] == ["0.0", "65.0", "130.0"]


def test_images_keep_their_pixels():
  pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)
  tree = ElementTree.fromstring(charts.images(pixels, "a & b"))
  assert [i.get("alt") for i in tree] == ["a & b 1", "a & b 2"]
  for image, want in zip(tree, pixels, strict=True):
    assert np.array_equal(_decode(image.get("src")), want)


def _decode(address):
  data = base64.b64decode(address.split(",", 1)[1])
  return np.asarray(PIL.Image.open(io.BytesIO(data)))
