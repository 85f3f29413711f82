"""The order in which samples come: a permutation that is computed where it is looked at, and never stored.

A Feistel network permutes the pairs of a x b numbers, whatever its round function; walking along its cycle until a
number below `count` comes up permutes those (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"). So the
order of 10^12 samples takes no memory, and any place in it is as near as the first. A short order is the order of
random numbers instead: there a network of few rounds would not make all orders equally likely.
"""

from __future__ import annotations

import hashlib
import math
import struct

import torch
from torch import Tensor

_ROUNDS = 6
"""Four look random to one who sees the results alone (Luby and Rackoff 1988); the round function is a plain one."""
_BLOCK = 4096
"""Places computed at a time: enough that a small step pays few µs for its part."""
_BITS = 31
"""That a number may have before it is multiplied, so that no product leaves an int64."""
_LOW = (1 << _BITS) - 1


def shuffled(places: Tensor, count: int, key: str) -> Tensor:
    """Which number stands at each place of a random order of 0 … count - 1.

    Args:
        places: int64, each below `count`.
        count: how many numbers there are, at most 2^60.
        key: what the order follows from: another key is another order.
    """
    if count <= _BLOCK:
        return _short(count, key).index_select(0, places)
    rows = math.isqrt(count - 1) + 1
    columns = -(-count // rows)
    keys = _keys(key, 3 * _ROUNDS)
    numbers = _network(places, rows, columns, keys)
    while len(outside := (numbers >= count).nonzero().flatten()):  # less than one in sqrt(count)
        numbers[outside] = _network(numbers[outside], rows, columns, keys)
    return numbers


def _short(count: int, key: str) -> Tensor:
    salt, *factors = _keys(key, 5)
    wide = _hash(torch.arange(count), salt, factors[0], factors[1]) << _BITS
    return (wide | _hash(torch.arange(count), salt, factors[2], factors[3])).argsort(stable=True)


def _keys(key: str, count: int) -> tuple[int, ...]:
    """Odd numbers below 2^31."""
    digest = hashlib.shake_128(key.encode()).digest(4 * count)
    return tuple(number & _LOW | 1 for number in struct.unpack(f"<{count}I", digest))


def _network(numbers: Tensor, rows: int, columns: int, keys: tuple[int, ...]) -> Tensor:
    """Each round shifts one half by a hash of the other, which can be undone: so no two numbers become one."""
    left, right = numbers // columns, numbers % columns
    for begin in range(0, len(keys), 6):
        one, other = keys[begin : begin + 3], keys[begin + 3 : begin + 6]
        left = _below(rows, _hash(right, *one)).add_(left).remainder_(rows)
        right = _below(columns, _hash(left, *other)).add_(right).remainder_(columns)
    return left.mul_(columns).add_(right)


def _below(limit: int, numbers: Tensor) -> Tensor:
    """Numbers below 2^31 scaled to numbers below `limit`, in place."""
    return numbers.mul_(limit).bitwise_right_shift_(_BITS)


def _hash(half: Tensor, salt: int, one: int, other: int) -> Tensor:
    """A number below 2^31 that looks random, for each number below 2^31."""
    mixed = half.bitwise_xor(salt).mul_(one)
    mixed.bitwise_xor_(mixed >> 29).bitwise_and_(_LOW).mul_(other)
    return mixed.bitwise_xor_(mixed >> 32).bitwise_and_(_LOW)


class Order:
    """The order of one epoch; the part of it that was asked for last is kept."""

    def __init__(self, count: int, key: str) -> None:
        self.count, self.key = count, key
        self._first, self._block = -1, torch.empty(0, dtype=torch.int64)  # none yet

    def numbers(self, begin: int, end: int) -> Tensor:
        """The numbers at the places from `begin` up to `end`, which may lie beyond the last."""
        end = min(end, self.count)
        first = begin - begin % _BLOCK
        if first != self._first:
            self._first, self._block = first, self.block(first, min(first + _BLOCK, self.count))
        here = self._block[begin - first : end - first]
        if end <= first + _BLOCK:
            return here
        return torch.cat([here, self.numbers(first + _BLOCK, end)])

    def block(self, begin: int, end: int) -> Tensor:
        return shuffled(torch.arange(begin, end), self.count, self.key)
