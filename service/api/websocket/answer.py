"""The text of one answer in numbered pieces, so that whoever lost the connection can be given exactly the rest."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class NumberedAnswer:
    """Piece n has number ``first + n``: the text of a token, or what was held back until the end. Some are empty.

    ``newest``: the last number that was ever given; numbers of pieces that were cut off are not given again.
    """

    first: int
    pieces: list[str] = field(default_factory=list)
    newest: int = field(init=False)

    def __post_init__(self) -> None:
        self.newest = self.first - 1

    @property
    def last(self) -> int:
        """The number of the last piece that is still there."""
        return self.first + len(self.pieces) - 1

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)

    def add(self, piece: str) -> None:
        """The next piece."""
        self.pieces.append(piece)
        self.newest += 1

    def since(self, number: int) -> str:
        """What follows the piece of that number."""
        return "".join(self.pieces[max(0, number + 1 - self.first) :])

    def truncate(self, number: int) -> None:
        """Forget what follows the piece of that number. Nothing can be added any more."""
        del self.pieces[max(0, number + 1 - self.first) :]
