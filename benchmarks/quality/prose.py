"""The prose that models are measured on: the second part of the first book of Newton's *Opticks* (1730).

It is chosen because anyone gets the same bytes of it: running English in the public domain, 26,000 tokens between two
headings, in a text that the wheels of one small package carry for every platform. The package's release is pinned in
pyproject.toml and the hash of the prose here, so a figure belongs to these very words.
"""

from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

PACKAGE = "apache-tvm-ffi"
FILE = "tvm_ffi/3rdparty/libbacktrace/Isaac.Newton-Opticks.txt"
BEGINS, ENDS = "THE FIRST BOOK OF OPTICKS\n\n\n\n\n_PART II._", "FOOTNOTES:\n\n[I]"
SHA256 = "ae8c506da446dc54eb1e36fb1760a8d7642c4bf0508a6f635a967e607ce3e192"


def prose() -> str:
    """Return the text. Raises PackageNotFoundError without the `bench` extra, and ValueError for any other text."""
    path = Path(str(distribution(PACKAGE).locate_file(FILE)))
    return checked(path.read_text(encoding="utf-8"))


def checked(book: str) -> str:
    """Return the part of the book that is measured."""
    text = book[book.find(BEGINS) : book.find(ENDS)].strip()
    found = sha256(text.encode()).hexdigest()
    if found != SHA256:
        raise ValueError(f"the prose in {PACKAGE} has the SHA-256 {found}, not {SHA256}")
    return text
