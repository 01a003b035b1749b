"""The data sets, one file each (or each family); a file registers its own."""
