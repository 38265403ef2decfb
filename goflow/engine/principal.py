"""The principal of a request: who asks for a change. Facts record its name.

The engine trusts a principal. Only the command line and the web server create one.
"""

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """Who asks. `name` is human-readable and may be empty, for nobody in particular."""

    name: str = ""


NOBODY = Principal()
