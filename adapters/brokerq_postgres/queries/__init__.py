"""The statements, each in a file named by its verb; `{schema}` in them is the schema's name."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> str:
    """Return the statement in `<name>.sql`."""
    return files(__name__).joinpath(f"{name}.sql").read_text("utf-8")


class Queries:
    """The statements for one schema, by name, as psycopg wants them."""

    def __init__(self, schema: str) -> None:
        self._schema = '"' + schema.replace('"', '""') + '"'
        self._made: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self.fill(load(name))
        return made

    def fill(self, statement: str) -> bytes:
        """Return a statement that was put together at run time."""
        return statement.replace("{schema}", self._schema).encode()
