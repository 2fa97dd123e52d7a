"""What the toys of model families have in common."""

from backline.models.stream import SessionConfig
from backline.models.warm_up import warmed_up


class ToyStream:
    """Whoever derives from it has the rest of a `Stream`; it weighs nothing, and is warm after a chunk."""

    def warm_up(self, config: SessionConfig) -> float:
        row = self.open(config)
        try:
            return warmed_up(self, row, config, chunks=1, timed=1, device="cpu")
        finally:
            self.close(row)

    def resident_bytes(self) -> int:
        return 0
