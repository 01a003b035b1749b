"""`python -m keyjax.cli`, for when the script is not on the path."""

import sys

from keyjax.cli.program import main

sys.exit(main())
