"""The daemon's doors: one for the inside (health, metrics, API) and one that may face the internet (webhooks). Both may be one port.

Nothing listens unless the settings say so. What comes in decides nothing about the world: a webhook is a hint to look at the source, and
the API puts words of people into the store, where the next pass finds them.
"""
