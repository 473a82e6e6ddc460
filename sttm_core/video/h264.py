"""Which H.264 packets a decoder may begin at, read from the packets themselves (ITU-T H.264, 7.3.1 and 7.4.1.2.4).

Containers call a packet a key frame also where only a recovery point stands: the I frame of an open GOP, after which
frames follow that need the group before, or the first frame of a refresh that takes many frames. Only an IDR picture
needs nothing from before itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SLICES = range(1, 6)  # types of the units that hold pictures
_IDR = 5
_START_CODE = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)


def is_idr(packet: bytes, extradata: bytes | None) -> bool:
    """Whether a packet's first picture is an IDR picture; ``extradata`` says how the packet is divided into units."""
    types = _with_lengths(packet, (extradata[4] & 3) + 1) if _is_avcc(extradata) else _with_start_codes(packet)
    return next((kind for kind in types if kind in _SLICES), None) == _IDR


def _is_avcc(extradata: bytes | None) -> bool:
    """MP4, MOV and Matroska write each unit's length before it, in as many bytes as the decoder configuration says."""
    return bool(extradata) and len(extradata) > 4 and extradata[0] == 1


def _with_lengths(packet: bytes, size: int) -> Iterator[int]:
    position = 0
    while position + size < len(packet):
        yield packet[position + size] & 31
        position += size + int.from_bytes(packet[position : position + size], "big")


def _with_start_codes(packet: bytes) -> Iterator[int]:
    return (found[1][0] & 31 for found in _START_CODE.finditer(packet))
