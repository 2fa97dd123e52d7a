"""`backline evaluate`: how well a pack plays, in figures: a table here, and JSON where it is asked for."""

from backline.cli.evaluate import accompanying, asking, separating, tokenizing
from backline.cli.evaluate.parts import evaluate

__all__ = ["accompanying", "asking", "evaluate", "separating", "tokenizing"]
