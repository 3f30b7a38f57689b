"""Answers with a picture beside them."""

from typing import Self

from pydantic import PrivateAttr

from flows.core.models import Value


class Illustrated(Value):
    """An answer that may have a picture, which is no part of its data."""

    _png: bytes = PrivateAttr(default=b"")

    @property
    def png(self) -> bytes:
        """The picture as PNG; empty: there is none."""
        return self._png

    def with_picture(self, png: bytes) -> Self:
        """Return the answer with a picture."""
        illustrated = self.model_copy()
        illustrated._png = png
        return illustrated
