"""MTCNN: faces among other crops, and where it finds them in photographs."""

from ml_collections import ConfigDict

from experiments.published import cascade, detections, images
from experiments.published.subject import Subject, register

# Units of a network's last layers would have no activation behind them.
_LAYERS = r".*/(conv_\d|dense)"


def make(config: ConfigDict) -> Subject:
  """Return the subject.

  Args:
    config: `source`, `package:mtcnn-` or the beginning of files' names;
      `scenes`, their number; `seed`; `photos` of scikit-image, each of which is
      mirrored too, and `side`, of the squares that they are cut to.

  Raises:
    ValueError: If a package is missing, or does not fit.
  """
  model, variables = cascade.load(config.source)
  photos = [
    images.photo(name, config.side, square=True) for name in config.photos
  ]
  return detections.subject(
    model,
    variables,
    cascade.example(),
    layers=_LAYERS,
    detect=cascade.detect,
    labelled=images.face_scenes(config.scenes, config.seed),
    photos=images.mirrored(photos),
    about={
      "dataset": "crops of LFW in scenes",
      "source": config.source,
    },
  )


register("faces", make)
