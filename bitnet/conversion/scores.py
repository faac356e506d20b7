"""The scores of SentencePiece pieces from the merges that a tokenizer.json has instead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitnet.errors import UnsupportedModelError
from bitnet.tokenizers.pieces import NORMAL, USER_DEFINED, Pieces, merges_in_order

Merge = tuple[str, str]


def scores_of_merges(
    path: Path, pieces: Pieces, merges: Sequence[Merge]
) -> tuple[npt.NDArray[np.float32], bool]:
    """A score for each piece, and whether readers find these very merges by them.

    If not, they differ in the order among the ways to make the same token, which seldom matters:
    transformers sorts them by length, readers by id, SentencePiece takes the first in the text.
    Pieces that no merge makes have the lowest scores, pieces that are no normal ones 0. Raises
    UnsupportedModelError if there are no such scores.
    """
    normal = {pieces.tokens[id]: id for id in sorted(pieces.of_kind(NORMAL))}
    # Cut out of the text before anything is merged.
    cut = {pieces.tokens[id] for id in pieces.of_kind(USER_DEFINED)}
    merges = [pair for pair in merges if cut.isdisjoint((*pair, "".join(pair)))]
    made = [token for token, _ in groupby(merges, "".join)]
    others = normal.keys() - {*made}
    by_score = [*made, *(token for token in normal if token in others)]
    once = len(by_score) == len(normal)
    found = list(merges_in_order(path, by_score, normal)) if once else []
    if {*found} != {*merges}:
        raise UnsupportedModelError(
            path, "the merges do not follow from scores, which GGUF files have in their place"
        )
    scores = np.zeros(len(pieces.tokens), np.float32)
    for rank, token in enumerate(by_score):
        scores[normal[token]] = -rank
    return scores, found == merges
