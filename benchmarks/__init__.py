"""What a figure in the README is reproduced with. Run all with ``make bench``, one with ``make bench ARGS=plan``."""
