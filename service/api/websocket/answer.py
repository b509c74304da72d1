"""The text of one answer in numbered pieces, so that a client that reconnects gets exactly the rest."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class NumberedAnswer:
    """An answer in pieces: each is the text of a token, maybe empty, or text that was held back until the end.

    Piece n has the number ``first + n``. ``newest``: the last number ever used; truncation frees no numbers.
    """

    first: int
    pieces: list[str] = field(default_factory=list)
    newest: int = field(init=False)

    def __post_init__(self) -> None:
        self.newest = self.first - 1

    @property
    def last(self) -> int:
        """The number of the last remaining piece."""
        return self.first + len(self.pieces) - 1

    @property
    def text(self) -> str:
        """The text of all pieces."""
        return "".join(self.pieces)

    def add(self, piece: str) -> None:
        """Add the next piece."""
        self.pieces.append(piece)
        self.newest += 1

    def since(self, number: int) -> str:
        """Return the text after the piece of that number."""
        return "".join(self.pieces[max(0, number + 1 - self.first) :])

    def truncate(self, number: int) -> None:
        """Remove what follows the piece of that number. Nothing can be added afterwards."""
        del self.pieces[max(0, number + 1 - self.first) :]
