"""What all commands share: flags, config, folders, files, results."""
