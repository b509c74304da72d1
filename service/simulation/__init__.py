"""A modelled data plane and a virtual clock: the same core runs on them."""
