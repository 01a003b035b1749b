"""KeyJAX's attacks on inputs against AutoAttack and Foolbox in PyTorch."""
