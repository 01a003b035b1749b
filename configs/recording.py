r"""What gradients and on-line updates record of the inputs behind them.

    python -m experiments.recording --config=configs/recording.py \
      --workdir=runs/recording

The figures are in docs/attacks/gradients.md.
"""

from ml_collections import ConfigDict

from experiments.run.config import set_data_fields


def get_config() -> ConfigDict:
  """Return the config."""
  config = ConfigDict()
  config.name = "recording"
  config.dataset = "digits"
  set_data_fields(config)
  config.seed = 0  # The first of the seeds.
  config.seeds = 3
  config.parts = ("online", "gradients")

  own = config.gradients = ConfigDict()
  own.models = ConfigDict(sort_keys=False)
  for name in ("sigmoid", "relu"):
    own.models[f"mlp_{name}"] = _model(
      "mlp", f"MLP, {name}", name, hidden=(64,)
    )
  for name in ("sigmoid", "relu"):
    own.models[f"cnn_{name}"] = _model(
      "cnn", f"CNN, {name}", name, features=(12, 12), units=64
    )
  own.networks = tuple(own.models)  # Those that are measured.
  own.batch_sizes = (1, 4, 8)  # Images of a device.
  own.devices = 8  # With one image each, where gradients are averaged; 1: none.
  own.train_steps = 300  # Of the network that is not fresh; 0: none.
  own.clip = 1.0  # Largest norm of an example's gradient; 0: no clipping.
  own.noise = (0.01, 0.1, 1.0)  # Noise multipliers, with clipping.
  own.locks = ("hpnn", "shf", "np", "ffx")
  own.attacks = ("division", "dlg", "idlg", "inverting")
  own.strongest = ("division", "inverting")  # With a lock or a defence.
  own.lbfgs_steps = 150  # Of DLG and iDLG.
  own.steps = 500  # Of Inverting Gradients.
  own.variation = 1e-3
  own.restarts = 2
  own.victims = 4  # Gradients of a scene and a seed.
  own.unrelated = 200  # Images of the control.

  online = config.online = _model("mlp", "MLP", "relu", hidden=(256,))
  online.locks = ("hpnn", "shf", "np", "ffx")
  online.pool = 600  # Images before serving.
  online.served = 300  # As many others are asked about.
  online.noise = 0.2  # Share of wrong labels.
  online.steps = 600
  online.batch_size = 64
  online.learning_rate = 3e-3
  online.online_rate = 3e-3
  online.passes = (1, 10)  # Over what was served.
  online.answers = ("told", "own")  # Labels that it learns from.
  config.lock()
  return config


def _model(
  model: str, title: str, activation: str, **args: object
) -> ConfigDict:
  """Return a model with its arguments."""
  return ConfigDict(
    {
      "model": model,
      "title": title,
      "args": {"activation": activation, **args},
    }
  )
