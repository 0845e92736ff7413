"""The embedded world: emulators of the systems on real sockets, a local git remote, and what plays on them."""
