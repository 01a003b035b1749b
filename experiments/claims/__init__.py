"""Published claims: studies that a config names, measured over seeds."""
