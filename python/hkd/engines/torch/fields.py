"""Reading of Caffe's messages without ignoring anything: a field that nobody asked for is an error that names its layer."""

from hkd.base.cli import UserError


def only(message, known, where):
    """Raises UserError if `message` has a field set that is not in `known`: it would be silently without effect."""
    for field, _ in message.ListFields():
        if field.name not in known:
            raise UserError(f"{where}: the torch engine does not know {field.name} of {message.DESCRIPTOR.name}")


def one_of(value, known, where, what):
    """`value`, or a UserError where it is none of those that the engine has code for."""
    if value not in known:
        raise UserError(f"{where}: the torch engine does not know {what} {value}")
    return value


def number(values, default, where, what):
    """The one number of a repeated field such as kernel_size; `default` where it is empty."""
    if len(values) > 1 and len(set(values)) > 1:
        raise UserError(f"{where}: the torch engine knows square {what} only, not {list(values)}")
    return values[0] if values else default
