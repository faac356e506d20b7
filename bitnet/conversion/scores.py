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
) -> npt.NDArray[np.float32]:
    """A score for each piece, such that the merges that follow from them are `merges`.

    Pieces that no merge makes have the lowest ones, pieces that are no normal ones 0. Raises
    UnsupportedModelError if there are no such scores.
    """
    normal = {pieces.tokens[id]: id for id in sorted(pieces.of_kind(NORMAL))}
    # Cut out of the text before anything is merged.
    cut = {pieces.tokens[id] for id in pieces.of_kind(USER_DEFINED)}
    merges = [pair for pair in merges if cut.isdisjoint((*pair, "".join(pair)))]
    made = [token for token, _ in groupby(merges, "".join)]
    ranks = {token: rank for rank, token in enumerate(made)}
    others = [token for token in normal if token not in ranks]
    follow = set(merges_in_order(path, normal, normal)) == set(merges)
    if len(ranks) != len(made) or not follow or not _same_order(path, merges, ranks, normal):
        raise UnsupportedModelError(
            path, "the merges do not follow from scores, which GGUF files have in their place"
        )
    scores = np.zeros(len(pieces.tokens), np.float32)
    for rank, token in enumerate([*made, *others]):
        scores[normal[token]] = -rank
    return scores


def _same_order(
    path: Path, merges: Sequence[Merge], ranks: dict[str, int], ids: dict[str, int]
) -> bool:
    """Whether merges in this order make the same as in the order that readers find.

    They differ among the merges that make the same token. That matters only for two of them that
    can want the same piece between them, if merges that make its halves come before.
    """
    found = list(merges_in_order(path, ranks, ids))
    if found == merges:
        return True
    if any(
        max(ranks.get(left, -1), ranks.get(right, -1)) >= ranks[left + right]
        for left, right in merges
    ):
        return False
    place = {pair: n for n, pair in enumerate(found)}
    for _, group in groupby(merges, "".join):
        pairs = list(group)
        for n, later in enumerate(pairs):
            for earlier in pairs[:n]:
                rivals = earlier[1] == later[0] or later[1] == earlier[0]
                if rivals and place[earlier] > place[later]:
                    return False
    return True
