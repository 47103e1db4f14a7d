"""`python -m receiptd`."""

import sys

from receiptd.cli import main

sys.exit(main())
