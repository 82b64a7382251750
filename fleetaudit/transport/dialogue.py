"""A conversation under way: what is still to be sent and what has been heard. Shared by transports."""

from __future__ import annotations

from fleetaudit.conversation import Conversation, Reply, Say, Stream


class Dialogue:
    """Keeps the two directions apart, so that neither side ever waits for the other to read."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._heard = {Stream.STDOUT: bytearray(), Stream.STDERR: bytearray()}
        self._eof = False
        self.outgoing = bytearray()

    @property
    def finished(self) -> bool:
        """Nothing is left to send, and stdin is to be closed."""
        return self._eof and not self.outgoing

    def start(self) -> None:
        """Take what the conversation opens with."""
        self._take(self._conversation.start())

    def hear(self, stream: Stream, data: bytes) -> None:
        """Pass on a chunk of output and take the answer. Raises what the conversation raises."""
        self._heard[stream] += data
        self._take(self._conversation.heard(stream, data))

    def hang_up(self) -> None:
        """The command reads no more: forget what it was to be sent."""
        self.outgoing.clear()
        self._eof = True

    def reply(self, exit_status: int) -> Reply:
        """Everything heard, and how it ended."""
        return Reply(exit_status, bytes(self._heard[Stream.STDOUT]), bytes(self._heard[Stream.STDERR]))

    def _take(self, say: Say) -> None:
        if not self._eof:
            self.outgoing += say.data
            self._eof = say.eof
