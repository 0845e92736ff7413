"""The documentation: pages for people, and the program that writes those which the code itself can tell."""
