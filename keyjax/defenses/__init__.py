"""Defences, of inputs and of answers, and what each one guarantees.

    adversarial training   `adversarial_loss.fgsm`, `pgd`, `fast`, `trades`
    distillation           `distilled_loss`, `soft_labels`
    saturated networks     `saturation`
    input noise            `with_noise`
    discrete inputs        `discrete`
    randomised smoothing   `certify`, `predict`
    similar queries        `similar_queries`
    what a service answers `answers`: temperature, top k, rounding, labels
    energy scores          `energy.energy`, `auroc`, `false_accepts`
    masked gradients       `audit.audit`: is a robust accuracy an illusion?
    encrypted inputs       `homomorphic`: the server answers and cannot read
    private training       `private`: DP-SGD, what it spends, and its audit
    poisoned data          `poisoning`: labels, streams, votes with certificates
    detectors of trojans   `trojans`: of data, models and inputs, and a repair

Pure functions over `logits_fn: float[n, ...] -> float[n, classes]`. Only
smoothing, private training and votes of partitions prove anything; every
docstring says how its defence is broken.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.defenses import (
    adversarial_loss,
    answers,
    audit,
    energy,
    homomorphic,
    poisoning,
    private,
    similar_queries,
    trojans,
  )
  from keyjax.defenses.audit_findings import Audit, Finding
  from keyjax.defenses.distillation import distilled_loss, soft_labels
  from keyjax.defenses.input_filters import discrete, with_noise
  from keyjax.defenses.saturated import saturation
  from keyjax.defenses.smoothing import Certificate, certify, predict

__all__ = [
  "Audit",
  "Certificate",
  "Finding",
  "adversarial_loss",
  "answers",
  "audit",
  "certify",
  "discrete",
  "distilled_loss",
  "energy",
  "homomorphic",
  "poisoning",
  "predict",
  "private",
  "saturation",
  "similar_queries",
  "soft_labels",
  "trojans",
  "with_noise",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "audit_findings": ("Audit", "Finding"),
    "distillation": ("distilled_loss", "soft_labels"),
    "input_filters": ("discrete", "with_noise"),
    "saturated": ("saturation",),
    "smoothing": ("Certificate", "certify", "predict"),
  },
)
