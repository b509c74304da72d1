"""The order in which idle owners were used last, so that those that have been silent longest go first."""

from service.core.state.owners import Owner


class IdleOrder:
    """Idle owners, longest silent first, and those of them that may have device blocks in the same order.

    Always true: a prefix comes after all that stands on it, since it was used whenever they were.
    """

    def __init__(self) -> None:
        self._owners: dict[Owner, None] = {}
        self._on_device: dict[Owner, None] = {}

    def __contains__(self, owner: Owner) -> bool:
        return owner in self._owners

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, owner: Owner) -> None:
        """Add an owner, the youngest."""
        self._owners[owner] = self._on_device[owner] = None

    def remove(self, owner: Owner) -> None:
        """Remove an owner."""
        del self._owners[owner]
        self._on_device.pop(owner, None)

    def left_device(self, owner: Owner) -> None:
        """Note that an owner has no device blocks."""
        self._on_device.pop(owner, None)

    @property
    def oldest(self) -> Owner | None:
        """The owner that has been silent longest, of those that expire."""
        return next((owner for owner in self._owners if not owner.does_not_expire), None)

    @property
    def all(self) -> list[Owner]:
        """All owners."""
        return list(self._owners)

    @property
    def on_device(self) -> list[Owner]:
        """The owners that have device blocks, and perhaps some that have lost them."""
        return list(self._on_device)

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        assert all(owner.idle_since_s is not None for owner in self._owners)
        assert list(self._on_device) == [owner for owner in self._owners if owner in self._on_device]
        met: set[Owner] = set()
        for owner in self._owners:
            assert owner.prefix not in met, "a prefix stands before what stands on it"
            met.add(owner)
