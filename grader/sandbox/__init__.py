"""Where a submission's code runs: the host side here, `guest/` for all that runs beside that code."""
