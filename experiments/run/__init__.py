"""What every command shares: flags, config, folders, files, results."""
