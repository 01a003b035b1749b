"""Attacks on locks that change a few weights, AdvParams above all.

A lock of some tens of scalars in hundreds of thousands is sparse, and four
kinds of attacker exploit that:

- `outliers`: an attacker who looks at values only: weights outside the range of
  their layer, values that occur twice, which a saturated step leaves, and the
  largest weights;
- `line_search` and `sparse_tune`: one with a few labelled images, who moves the
  weights with the most promising gradients;
- `batch_statistics`: one with unlabelled images and a network with batch norm;
- `base_model`: one with the public base model, from which the file differs most
  where it was locked.

References:
  Xue et al., arXiv 2105.13697, claims robustness to an adaptive attacker who
  knows every step of the scheme; this is the attack.
"""
