"""Notes on a board: the smallest system that a driver can keep. Importing this package imports no vendor library."""

from docs.example_driver.spec import BoardConfig, Note
from reconciler.driver import Plugin

PLUGIN = Plugin(
    name="board",
    api_version="board/v1",
    kinds={"Note": Note},
    config=BoardConfig,
    driver="docs.example_driver.driver:BoardDriver",
    emulator="docs.example_driver.emulator:BoardEmulator",
)
