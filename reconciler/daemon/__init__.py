"""The program that runs for months: events in, passes out, people informed. Everything here is a thread round the engine."""
