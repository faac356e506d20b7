"""How well a model predicts text, and how far it is from another one at that."""

from bitnet.evaluation.baseline import Divergence
from bitnet.evaluation.excerpts import Excerpt, whole, windows
from bitnet.evaluation.score import Evaluation, Score, evaluate

__all__ = ["Divergence", "Evaluation", "Excerpt", "Score", "evaluate", "whole", "windows"]
