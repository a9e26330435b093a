"""A cursor over part of a module in the Wasm binary format. Knows no section and no instruction."""

from bridge.replica.execution.failures import InvalidModuleError


class Cursor:
    """Where a reader stands between the bytes ``at`` and ``end``; no read goes beyond the end.

    Args:
        data: What holds the part.
        at: Where the part begins.
        end: Where it ends.

    Raises:
        InvalidModuleError: From every read, if the part ends too early.
    """

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def byte(self) -> int:
        """The next byte."""
        if self.at >= self.end:
            raise InvalidModuleError("unexpected end of a section")
        value = self.data[self.at]
        self.at += 1
        return value

    def leb(self) -> int:
        """An unsigned LEB128 number of at most 64 bits."""
        data, at, end = self.data, self.at, self.end
        value = shift = 0
        while at < end:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.at = at
                return value
            shift += 7
            if shift > 63:
                raise InvalidModuleError("a LEB128 number is too long")
        raise InvalidModuleError("unexpected end of a section")

    def take(self, size: int) -> bytes:
        """So many bytes."""
        if size > self.end - self.at:
            raise InvalidModuleError("unexpected end of a section")
        part = self.data[self.at : self.at + size]
        self.at += size
        return part

    def name(self) -> str:
        """A name: its length, then its text."""
        try:
            return self.take(self.leb()).decode()
        except UnicodeDecodeError as error:
            raise InvalidModuleError("a name is not UTF-8") from error
