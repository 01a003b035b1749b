"""What training and serving record of inputs: in gradients, in updates."""
