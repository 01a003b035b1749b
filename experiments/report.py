"""Report placeholder."""


def write(path, rows, figures):
  import json

  path.write_text(json.dumps(figures)[:100])
