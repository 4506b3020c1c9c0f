"""What an operator's action says when it cannot be done."""

from typing import Any

from gateway.errors import Reason, Refused


def invalid(param: str, text: str) -> Refused:
    """An argument that is not one; `param` "" where it is all of them."""
    return Refused(Reason.INVALID_PARAMETER, f"{param}: {text}" if param else text, param=param or None)


def unknown(what: str, name: Any) -> Refused:
    return Refused(Reason.NOT_FOUND, f"There is no {what} {name}.")


def declared(what: str, name: str, *, remedy: str = "") -> Refused:
    """It is the configuration's, and nobody else's to make or change."""
    return Refused(Reason.CONFLICT, f"The {what} {name} is declared in the configuration{remedy}.", param="name")
