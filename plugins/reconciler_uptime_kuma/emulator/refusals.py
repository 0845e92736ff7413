"""How the emulated server says no, in the real one's own words."""

from reconciler.resource import JSONObject

FOREIGN_KEY = "SQLITE_CONSTRAINT: FOREIGN KEY constraint failed"


class Refused(Exception):
    """An answer that says no. The message is the real one's own."""


class NoAnswer(Exception):
    """The real one throws before it calls back."""


def complaint(table: str, columns: JSONObject, failure: str) -> str:
    """Give the database's complaint about an insert, which quotes every value, and so is not for logs."""
    names = sorted(columns)
    quoted, values = ", ".join(f"`{name}`" for name in names), ", ".join(_literal(columns[name]) for name in names)
    return " ".join(("insert into", f"`{table}`", f"({quoted})", "values", f"({values})", "-", failure))


def _literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case str():
            return f"'{value}'"
        case list() | dict():
            return ""
    return str(value)
