"""What the extension imports, and what uses the extension while it is being imported."""

import lazy_types  # before or after: the test puts one of them under this name


class Price:
    def __init__(self, amount):
        self.amount = amount


FREE = lazy_types.price(0)
