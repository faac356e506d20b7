"""The Python half of libbitnet: what the functions of bitnet.h ask of this package.

The C half (cabi/) has checked every argument by the time it calls here. `host` has what C programs
hold by id, and does what they ask for; `attach` and `attach_ext` give the functions of cabi/host.h
their bodies. This package is of no use from Python.
"""

from bitnet.embed.attach import attach

__all__ = ["attach"]
