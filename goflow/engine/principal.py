"""The principal of a request: the user or program that requests a change. Facts record its name.

The engine trusts a principal. Only the command line and the web server create one.
"""

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """A user or program. `name` is human-readable, and empty if it is unknown."""

    name: str = ""


NOBODY = Principal()
