"""What a user would pick instead of KeyJAX's sealed checkpoints."""
