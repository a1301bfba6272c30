"""The nearest of all codewords, for a nesting ratio so small that there are few; in plain NumPy.

Few different pairs of coordinates occur in codewords, few halves of 4, and what half may follow another depends on
little. So the inner products of a block with all codewords are had from those with pairs and halves: the largest for
every norm, which tells the nearest codeword at any scale. Since rounding keeps an order, nothing is lost by taking
maxima before sums.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from latq.kernels.reference import F32, I32, add8, codeword


@dataclass(frozen=True, eq=False)
class Codebook:
    """All codewords, in doubled coordinates, as sums of parts that they share.

    A group is what right halves of one norm may follow some left halves; an entry is a left half and such a group. The
    entries of one norm are a shell.
    """

    pairs: I32  # (P, 3): first coordinate, values of that and the next
    lefts: I32  # (L, 2): pairs that a left half has
    rights: I32  # (R, 2)
    members: I32  # right halves, group by group
    groups: I32  # (G,): where the members of each begin
    entries: I32  # (E, 2): left half and group, shell by shell
    shells: I32  # (S,): where the entries of each begin
    norms: F32  # (S,): a quarter of the squared norm, rising: as it is in real coordinates

    def words(self, left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]) -> I32:
        """Codewords (8, N) of halves (N,)."""
        places = np.concatenate([self.lefts[left], self.rights[right]], axis=1)
        found: I32 = self.pairs[places, 1:].reshape(-1, 8).T
        return found


@lru_cache(maxsize=8)
def codebook(q: int, offset: tuple[int, ...]) -> Codebook:
    words = codeword(np.indices((q,) * 8, np.int32).reshape(8, -1), q, np.array(offset, np.int32))
    pairs, places = _pairs(words)
    lefts, left_of = _distinct(places[:2])
    rights, right_of = _distinct(places[2:])
    left_norms, right_norms = (_norms(pairs[half, 1:]) for half in (lefts, rights))
    follows = np.zeros((len(lefts), len(rights)), np.bool_)
    follows[left_of, right_of] = True
    sets, set_of = np.unique(follows, axis=0, return_inverse=True)
    members: list[npt.NDArray[np.intp]] = []
    groups_of: list[list[tuple[int, int]]] = []
    for allowed in sets:
        groups_of.append([])
        for norm in np.unique(right_norms[allowed]):
            groups_of[-1].append((int(norm), len(members)))
            members.append(np.flatnonzero(allowed & (right_norms == norm)))
    entries = sorted(
        (int(left_norms[left]) + norm, left, group)
        for left, own in enumerate(set_of.reshape(-1))
        for norm, group in groups_of[own]
    )
    norms, shells = np.unique([norm for norm, *_ in entries], return_index=True)
    return Codebook(
        pairs,
        lefts,
        rights,
        np.concatenate(members).astype(np.int32),
        np.cumsum([0, *(own.size for own in members[:-1])]).astype(np.int32),
        np.array([places for _, *places in entries], np.int32),
        shells.astype(np.int32),
        norms.astype(np.float32) * np.float32(0.25),
    )


def _pairs(words: I32) -> tuple[I32, I32]:
    """Different pairs of coordinates (P, 3), and the four of each word (4, N)."""
    pairs, places = np.empty((0, 3), np.int32), []
    for i in range(0, 8, 2):
        own, place = _distinct(words[i : i + 2])
        places.append(place + np.int32(len(pairs)))
        pairs = np.concatenate([pairs, np.insert(own, 0, i, axis=1)])
    return pairs, np.stack(places)


def _distinct(columns: I32) -> tuple[I32, I32]:
    """Different columns, as rows, and which of them each column is."""
    found, place = np.unique(columns.T, axis=0, return_inverse=True)
    return found.astype(np.int32), place.reshape(-1).astype(np.int32)


def _norms(halves: I32) -> I32:
    """Squared norms of halves (H, 2, 2)."""
    found: I32 = (halves * halves).sum(axis=(1, 2))
    return found


@dataclass(frozen=True)
class Products:
    """Inner products of blocks (8, N) with right halves, the largest in each group, those with entries, the largest in
    each shell: all (..., N)."""

    rights: F32
    groups: F32
    entries: F32
    shells: F32


def products(x: F32, book: Codebook) -> Products:
    place, first, second = book.pairs.T
    pairs = x[place] * first[:, None].astype(np.float32) + x[place + 1] * second[:, None].astype(np.float32)
    lefts, rights = (pairs[half[:, 0]] + pairs[half[:, 1]] for half in (book.lefts, book.rights))
    groups = np.maximum.reduceat(rights[book.members], book.groups)
    entries = lefts[book.entries[:, 0]] + groups[book.entries[:, 1]]
    return Products(rights, groups, entries, np.maximum.reduceat(entries, book.shells))


def _beyond(shells: F32, book: Codebook, step: np.float32) -> F32:
    """Squared distances to the nearest codeword of each shell, less the squared norms of the blocks."""
    found: F32 = (step * step) * book.norms[:, None] - step * shells
    return found


def all_errors(x: F32, book: Codebook, steps: F32) -> F32:
    """Squared errors (K, N) of blocks (8, N) at every step (K,)."""
    shells, energy = products(x, book).shells, add8(x * x)
    return np.stack([energy + _beyond(shells, book, step).min(axis=0) for step in steps])


def nearest_word(y: F32, book: Codebook) -> I32:
    """The codeword (8, N) nearest to each block, given in steps. Of equals that of the lowest shell, of these the first
    entry, of these the first right half."""
    found = products(y, book)
    shell = _beyond(found.shells, book, np.float32(1)).argmin(axis=0)
    columns = np.arange(y.shape[1])
    largest = found.shells[shell, columns]
    shell_of = np.repeat(np.arange(len(book.shells)), np.diff(book.shells, append=len(book.entries)))
    entry = ((found.entries == largest) & (shell_of[:, None] == shell)).argmax(axis=0)
    left, group = book.entries[entry].T
    group_of = np.repeat(np.arange(len(book.groups)), np.diff(book.groups, append=book.members.size))
    highest = found.groups[group, columns]
    member = ((found.rights[book.members] == highest) & (group_of[:, None] == group)).argmax(axis=0)
    return book.words(left, book.members[member])
