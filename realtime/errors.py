"""Refusals of the stream; each is a leaf of the tree in :mod:`kit.errors`."""

from __future__ import annotations

from kit.errors import Busy, Invalid


class InvalidChannel(Invalid):
    """A channel name that no parser understands."""

    code = "invalid_channel"
    title = "There is no such kind of channel"


class InvalidEvent(Invalid):
    """A poison event: its type is unknown, foreign to its channel, or its data do not fit."""

    code = "invalid_event"
    title = "The event is not one that the stream carries"


class StreamUnavailable(Busy):
    """The live layer or the history did not answer within its deadline."""

    code = "stream_unavailable"
    title = "The stream is not available for a moment"
