"""Boxes: which are right, which remain, and where a map has them."""

import numpy as np
import pytest

from experiments.published import cascade, images, matching, printed, retrieval
from experiments.published.matching import Found
from keyjax import tasks

BOX = np.array([[0, 0, 10, 10]], np.float32)


def found(*rows: tuple[float, ...]) -> Found:
  array = np.array(rows, np.float32).reshape(-1, 5)
  return Found(array[:, :4], array[:, 4])


def ap50(own: list[Found], truth: list[np.ndarray]) -> float:
  statistics = matching.statistics(own, truth)
  task = tasks.get("boxes")
  counts = np.ones((1, len(own)), np.int64)
  assert task.metrics["ap"](statistics, counts) <= task.value(statistics) + 1e-9
  return task.value(statistics)


def test_each_box_is_found_once() -> None:
  right, again = (0, 0, 10, 9, 0.9), (0, 0, 9, 10, 0.8)
  assert ap50([found(right)], [BOX]) == pytest.approx(1)
  assert ap50([matching.none()], [BOX]) == 0
  # The second one finds the same box: it is wrong, but comes last.
  assert ap50([found(again, right)], [BOX]) == pytest.approx(1)
  # A wrong one that is surer halves the precision.
  wrong = (50, 50, 60, 60, 0.95)
  assert ap50([found(right, wrong)], [BOX]) == pytest.approx(0.5, abs=0.01)
  # Half of the boxes are found, in one of two images.
  half = ap50([found(right), matching.none()], [BOX, BOX + 3])
  assert half == pytest.approx(0.5, abs=0.01)
  # An overlap of 1/3 is too little.
  assert ap50([found((0, 5, 10, 15, 0.9))], [BOX]) == 0


def test_an_image_without_boxes_counts_what_is_found_there() -> None:
  empty = np.zeros((0, 4), np.float32)
  own = [found((0, 0, 10, 10, 0.5)), found((0, 0, 5, 5, 0.9))]
  assert ap50(own, [BOX, empty]) == pytest.approx(0.5, abs=0.01)


def test_what_overlaps_a_better_one_is_dropped() -> None:
  own = found(
    (0, 0, 10, 10, 0.5),
    (0, 0, 10, 12, 0.9),
    (0, 4, 10, 9, 0.7),
    (30, 30, 40, 40, 0.1),
  )
  assert matching.suppress(own, 0.7).tolist() == [1, 2, 3]
  assert matching.suppress(own, 0.7, of_smaller=True).tolist() == [1, 3]
  assert matching.suppress(matching.none(), 0.5).tolist() == []


def test_resized_pixels_are_means() -> None:
  image = np.arange(24, dtype=np.float32).reshape(4, 6, 1)
  small = cascade.resize(image, 2, 3)
  blocks = image.reshape(2, 2, 3, 2, 1).mean((1, 3))
  np.testing.assert_allclose(small, blocks)
  # Bins of unequal size overlap: 4 rows to 3 are 0-1, 1-2 and 2-3.
  rows = cascade.resize(image, 3, 6)[:, 0, 0]
  np.testing.assert_allclose(rows, [3, 9, 15])
  np.testing.assert_allclose(cascade.resize(image, 8, 6)[::2], image)


def test_an_image_is_scaled_until_a_face_fills_it() -> None:
  scales = list(cascade.sizes(40, 100))
  assert scales[0] == 0.6 and len(scales) == 3
  assert 40 * scales[-1] >= 12 > 40 * scales[-1] * 0.709
  assert list(cascade.sizes(19, 100)) == []


class Networks:
  """Cascade networks that see a face where an image is white."""

  def __init__(self, move: float = 0.0, score: float = 9.0) -> None:
    self.move, self.score = move, score

  def __call__(self, inputs):
    (name, x), *_ = inputs.items()
    if name == "proposal":
      n = [(side - 12) // 2 + 1 for side in x.shape[1:3]]
      windows = [
        x[0, 2 * r : 2 * r + 12, 2 * c : 2 * c + 12].min()
        for r in range(n[0])
        for c in range(n[1])
      ]
      white = (np.array(windows) > 0.8).reshape(1, *n)
    else:
      white = x.mean((1, 2, 3)) > 0.8
    face = np.where(white, self.score, -9.0)
    logits = np.stack([np.zeros_like(face), face], -1)
    return {name: {"face": logits, "box": np.full((*face.shape, 4), self.move)}}


def test_the_cascade_finds_a_white_square() -> None:
  image = np.zeros((48, 64, 3), np.uint8)
  image[10:34, 20:44] = 255
  own = cascade.detect(Networks(), image)
  assert len(own.scores) and own.scores.min() > 0.99
  best = matching.overlaps(own.boxes, np.array([[10, 20, 34, 44]], np.float32))
  assert best.max() > 0.5
  moved = cascade.detect(Networks(move=0.02), image)
  assert (moved.boxes[0] > own.boxes[0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_no_face(value: float) -> None:
  image = np.full((40, 40, 3), 255, np.uint8)
  assert not len(cascade.detect(Networks(move=value), image).scores)
  assert not len(cascade.detect(Networks(score=value), image).scores)
  assert not len(cascade.detect(Networks(), image[:10]).scores)
  # Boxes far outside of the image have no pixels.
  assert not len(cascade.detect(Networks(move=1e30), image).scores)


def test_a_map_of_text_gives_boxes() -> None:
  scores = np.full((40, 60), 0.1)
  scores[10:16, 8:48] = 0.9  # A line.
  scores[30:36, 8:48] = 0.4  # Not sure enough.
  scores[20:22, 50:52] = 0.9  # Too small once more.
  scores[20:21, 50:52] = 0.1
  own = printed.boxes(scores, np.array([2.0, 3.0, 2.0, 3.0]))
  assert len(own.scores) == 1 and own.scores[0] > 0.7
  y0, x0, y1, x1 = own.boxes[0] / [2, 3, 2, 3]
  # Every side moves by 1.6 times area over perimeter.
  assert 10 - y0 == pytest.approx(8 - x0) and 4 < 10 - y0 < 6
  assert y1 > 16 and x1 > 48
  assert not len(printed.boxes(np.zeros((40, 60)), np.ones(4)).scores)


def test_the_text_detector_takes_images_of_any_size() -> None:
  seen = []

  def forward(x):
    seen.append(x)
    logits = np.full(x.shape[:3], -9.0)
    logits[:, 8:16, 8:40] = 9.0
    logits[:, 24, 0] = np.nan
    return logits

  image = np.zeros((45, 130, 3), np.uint8)
  image[..., 0] = 255  # Red.
  own = printed.detect(forward, image)
  assert seen[0].shape == (1, 32, 128, 3)
  np.testing.assert_array_equal(seen[0][0, 5, 5], [-1, -1, 1])
  assert len(own.scores) == 1
  low, high = own.boxes[0, [0, 2]]
  assert low < 8 * 45 / 32 and 16 * 45 / 32 < high <= 45


def test_pages_have_their_words_in_their_boxes() -> None:
  page, other = images.printed_pages(2, seed=3)
  assert page.image.shape == (256, 384, 3) and len(page.boxes) > 2
  assert not np.array_equal(page.image, other.image)
  ink = (page.image < page.image.max() - 20).any(-1)
  inside = np.zeros_like(ink)
  for y0, x0, y1, x1 in page.boxes.round().astype(int):
    assert ink[y0:y1, x0:x1].any()
    inside[y0:y1, max(x0 - 2, 0) : x1 + 2] = True
  assert not (ink & ~inside).any()
  again = images.printed_pages(2, seed=3)[0]
  np.testing.assert_array_equal(again.image, page.image)


def test_scenes_of_faces() -> None:
  try:
    images.find("lfw_subset.npy")
  except ValueError as error:
    pytest.skip(str(error))
  scenes = images.face_scenes(2, seed=0, columns=2, side=30)
  for scene in scenes:
    assert scene.image.shape == (90, 90, 3) and len(scene.boxes) == 2
    assert (scene.boxes[:, 2:] - scene.boxes[:, :2] == 30).all()
  with pytest.raises(ValueError, match="60 scenes need more than 100 faces"):
    images.face_scenes(60, seed=0, columns=2)


def test_absent_images_say_what_to_type(monkeypatch) -> None:
  monkeypatch.setattr(images, "_PACKAGE", "no-such-package")
  with pytest.raises(ValueError, match="pip install --no-deps scikit-image"):
    images.photo("a.png", 32)


def test_titles_find_their_texts() -> None:
  texts = retrieval.python_help()
  assert len(texts.queries) == len(set(texts.queries)) > 60
  assert 'The "assert" statement' in texts.queries
  assert all(texts.texts) and not set(texts.queries) & set(texts.texts)
