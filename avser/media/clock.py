"""One clock for the streams of a file: time stamps that jump are joined, alike for all streams.

Recordings that were put together, phones that set their clock and damaged headers make time stamps
jump. Stamps are corrected packet by packet before decoding, so that decoders see time that runs on.

A stamp is believed where it goes on from the stream's last one, where another stream covers the
time up to it, where the hole before it is a minute at most, or where an indexed container's stated
length confirms it. Any other is a jump: a new section of the file begins, at the end of what came
before, and the other streams join the section at their own jump. Holes together are bounded, so
that stamps alone never make much work.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

from av.packet import Packet
from av.stream import Stream

_BACKWARD_S = 0.1  # containers round times to 1 ms and more; decoding order is exact
_REORDERED_S = 10.0  # the same for pictures whose times of decoding are missing or guessed
_GUESSED = {"matroska", "webm"}  # store times of presentation alone
_SLOW_S = 1.0  # up to one packet a second nothing is a hole
_UNCONFIRMED_S = 60.0  # a longer hole needs to be confirmed
_HOLES_S = 3_600.0  # all holes together: silence is written for them
_JOIN_BACK_S = 10.0  # by which a stream may overlap itself where it joins a section
_SLIP = 8  # packets after which a jump is no slip of single stamps
_SECTIONS = 8  # latest ones that are looked at for a jump


def seconds(ticks: int, base: Fraction) -> float:
    """Ticks of a time base in seconds, as exact as ``float(ticks * base)`` and ten times faster."""
    return ticks * base.numerator / base.denominator


def _is_guessed(stream: Stream) -> bool:
    """Whether times of decoding are guessed by the demuxer."""
    return not _GUESSED.isdisjoint(stream.container.format.name.split(","))


@dataclass
class _Position:
    """Where one stream is: its section, and its last stamps on the corrected clock."""

    section: int = 0
    last_dts_s: float | None = None
    last_pts_s: float | None = None
    before: tuple[int, float] | None = None  # section and last stamp before its latest jump
    since: int = 0  # packets since then

    @property
    def last_s(self) -> float | None:
        return self.last_pts_s if self.last_dts_s is None else self.last_dts_s


class FileClock:
    """Corrects the stamps of packets so that time runs on.

    Args:
        start_s: time in the file at which it begins.
        stated_end_s: time in the file at which it ends, as an index confirms it; else None.

    Attributes:
        end_s: time, corrected, at which the packets so far end.
        jumps: times, corrected, at which new sections begin.
        forward: whether a jump left time out.
    """

    def __init__(self, *, start_s: float, stated_end_s: float | None) -> None:
        self.end_s = start_s
        self.jumps: list[float] = []
        self.forward = False
        self._stated_end_s = stated_end_s
        self._offsets = [0.0]  # of each section, added to its stamps
        self._positions: defaultdict[int, _Position] = defaultdict(_Position)
        self._holes_s = 0.0

    def correct(self, packet: Packet[Stream]) -> None:
        """Move a packet's stamps onto the clock; packets come in the order of the file."""
        stream = packet.stream
        ticks = packet.dts if packet.dts is not None else packet.pts
        if ticks is None or not stream.time_base:
            return
        base = stream.time_base
        position, stamp_s = self._positions[stream.index], seconds(ticks, base)
        time_s = stamp_s + self._offsets[position.section]
        exact = packet.dts is not None and not (stream.type == "video" and _is_guessed(stream))
        position.since += 1
        if position.before is not None and self._slip_is_over(position, stamp_s, time_s):
            position.section, position.before = position.before[0], None
            time_s = stamp_s + self._offsets[position.section]
        elif not self._goes_on(position, time_s, exact=exact):
            shown_s = stamp_s if packet.pts is None else seconds(packet.pts, base)
            section = self._section_for(position, stamp_s, shown_s=shown_s)
            last_s = position.last_s
            position.before = None if last_s is None else (position.section, last_s)
            position.section, position.since = section, 0
            time_s = stamp_s + self._offsets[position.section]
        offset_s = self._offsets[position.section]
        shift = round(offset_s / seconds(1, base)) if offset_s else 0
        if packet.dts is not None:
            packet.dts += shift
            position.last_dts_s = time_s
        if packet.pts is not None:
            packet.pts += shift
            shown_s = seconds(packet.pts, base)
            late_s = shown_s - time_s  # a picture that is shown so long after it is decoded
            if abs(late_s) > _UNCONFIRMED_S and not (
                0 < late_s <= _HOLES_S
                and (shown_s <= self.end_s + _UNCONFIRMED_S or self._confirmed(shown_s))
            ):  # is damaged
                packet.pts, shown_s = packet.dts, time_s
            position.last_pts_s = shown_s
            time_s = max(time_s, shown_s)
        length_s = min(max(seconds(packet.duration or 0, base), 0.0), _SLOW_S)
        self.end_s = max(self.end_s, time_s + length_s)

    def _slip_is_over(self, position: _Position, stamp_s: float, time_s: float) -> bool:
        """Whether a stream continues from before a jump of a few stamps."""
        if position.before is None or position.since > _SLIP or position.last_s is None:
            return False
        section, before_s = position.before
        goes_on = -_BACKWARD_S <= stamp_s + self._offsets[section] - before_s <= _SLOW_S
        return goes_on and abs(time_s - position.last_s) > _BACKWARD_S

    def _goes_on(self, position: _Position, time_s: float, *, exact: bool) -> bool:
        last_s = position.last_dts_s if exact else position.last_pts_s
        tolerance_s = _BACKWARD_S if exact else _REORDERED_S
        if last_s is not None and time_s < last_s - tolerance_s:
            return False
        hole_s = time_s - self.end_s
        if hole_s <= _SLOW_S:
            return True
        if hole_s > _UNCONFIRMED_S and not self._confirmed(time_s):
            return False
        if self._holes_s + hole_s > _HOLES_S:
            return False
        self._holes_s += hole_s
        return True

    def _confirmed(self, time_s: float) -> bool:
        return self._stated_end_s is not None and time_s <= self._stated_end_s + _SLOW_S

    def _section_for(self, position: _Position, stamp_s: float, *, shown_s: float) -> int:
        """The section that a jump leads to: one that is there already, or a new one."""
        last_s = position.last_s
        for section in range(len(self._offsets) - 1, max(-1, len(self._offsets) - _SECTIONS), -1):
            if section == position.section or last_s is None:
                continue
            after_s = stamp_s + self._offsets[section] - last_s
            newer = section > position.section
            back_s, on_s = (_JOIN_BACK_S, _UNCONFIRMED_S) if newer else (_BACKWARD_S, _SLOW_S)
            if -back_s <= after_s <= on_s:
                return section
        # in a file with an index one stream may lie far before another, and jumps are single
        # slips; elsewhere the streams lie side by side, and the part before ends with the longest
        beside = self._stated_end_s is None or last_s is None
        begin_s = self.end_s if beside or last_s is None else last_s
        self.forward |= stamp_s + self._offsets[position.section] > begin_s
        # pictures are decoded a little before they are shown, where they are reordered
        first_s = shown_s if 0 < shown_s - stamp_s < _REORDERED_S else stamp_s
        self._offsets.append(begin_s - first_s)
        self.jumps.append(begin_s)
        return len(self._offsets) - 1
