"""Who guesses keys is not listened to for a while: failed authentications by client address, and by user name.

Guarantees: from one address, at most `limit.count` different wrong texts are judged in any period, and as many at
each key that was good from there; what is throttled is not judged, so nothing is learnt from it, not even whether the
key was good. Nobody is locked out by what others do from other addresses. Subjects and texts are known by their hashes
only, and no more than a fixed number of them.

Four decisions:

- The address counts. An IPv6 address counts with its /64, which is what one client has; loopback is an address like any
  other, because behind a proxy that is not trusted it is everybody.
- The same wrong text again, from the same address with the same user name, tells a guesser nothing: it counts once a
  period. So a forgotten cron job with an old key, that tries every second, takes one failure a period of what its
  neighbours behind the same address have, and is told each time what is wrong.
- A key that was good from an address goes on to be heard from there, whatever else fails at that address. It is
  recognised by its first characters (those that lists show), and these have a limit of their own: who shares the
  address of a good key gets so many guesses at it, and no more.
- The user name counts last. It is no part of the credentials (any name will do), so who guesses need not repeat it, and
  whoever knows it could lock its owner out. Only once as many addresses as the limit says failed with one name in a
  period, each address has one failed attempt a period with that name instead of all: whoever comes with a good key,
  from an address that did not fail, is let in.

It does not judge, and it forgets at a restart.
"""

import functools
import math
from collections import OrderedDict
from ipaddress import IPv6Address
from typing import Final

from gateway.errors import Reason, Refused
from gateway.keyterms import Limit
from gateway.policy import auth
from gateway.policy.limits import Buckets
from gateway.runtime import Clock

_SITE_BITS: Final = 64  # of an IPv6 address, those that say whose it is (RFC 4291, 2.5.4)


class Guard:
    """`limit` is that of failed attempts; of addresses, names, wrong texts and good keys the last `subjects` each are
    known.

    Call `check`, judge, then call `passed` or `failed` with the same words, all without a pause between. `login` is ""
    where there is no user name.
    """

    def __init__(self, limit: Limit, clock: Clock, *, subjects: int = 10_000) -> None:
        self._most = subjects
        self._clock = clock
        self._divide(limit)
        # Addresses with the first characters of a key that was good from there: whether one like it failed since.
        self._good: OrderedDict[int, bool] = OrderedDict()

    def reconfigure(self, limit: Limit) -> None:
        """Another limit from now on: what was counted by the old one is forgotten, good keys are not."""
        if limit != self._limit:
            self._divide(limit)

    def _divide(self, limit: Limit) -> None:
        clock, subjects = self._clock, self._most
        self._limit = limit
        # Half of it at once and half of its rate: a full bucket and what comes in make up the limit, not twice it.
        strict = Limit(limit.unit, limit.count, 2 * limit.period_s, burst=(limit.count + 1) // 2)
        self._places = Buckets(strict, clock, subjects=subjects)
        self._pairs = Buckets(strict, clock, subjects=subjects)
        self._names = Buckets(limit, clock, subjects=subjects)
        once = Limit(limit.unit, 1, limit.period_s, burst=1)
        self._named = Buckets(once, clock, subjects=subjects)
        self._texts = Buckets(once, clock, subjects=subjects)

    def check(self, peer: str, login: str, text: str) -> None:
        """Before an attempt is judged. Refused with THROTTLED and the whole seconds to wait."""
        place = _place(peer)
        pair = _pair(place, auth.hint(text))
        failed_since = self._good.get(hash(pair))
        if failed_since is None:
            wait_s = self._name_wait(place, login) or _wait(self._places, place)
        else:
            wait_s = _wait(self._pairs, pair) if failed_since else 0.0
        if wait_s:
            seconds = math.ceil(wait_s)
            words = f"Too many failed authentications; try again in {seconds} s."
            raise Refused(Reason.THROTTLED, words, retry_after_s=seconds)

    def passed(self, peer: str, text: str) -> None:
        """The attempt was good."""
        known = hash(_pair(_place(peer), auth.hint(text)))
        if known not in self._good:
            if len(self._good) >= self._most:
                self._good.popitem(last=False)
            self._good[known] = False
        self._good.move_to_end(known)

    def failed(self, peer: str, login: str, text: str) -> bool:
        """The attempt was not good. Whether it counted: False where it is one of before, in the same period."""
        place = _place(peer)
        if self._texts.take(_pair(place, f"{login}\0{text}")):
            return False
        pair = _pair(place, auth.hint(text))
        if (known := hash(pair)) in self._good:
            self._good[known] = True
            self._pairs.take(pair)
            return True
        self._places.take(place)
        if login and not self._named.take(_pair(place, login)):
            self._names.take(login)
        return True

    def _name_wait(self, place: str, login: str) -> float:
        """0.0 unless many addresses failed with this name, and this one among them."""
        if not login or not _wait(self._names, login):
            return 0.0
        return _wait(self._named, _pair(place, login))


def _wait(buckets: Buckets, subject: str) -> float:
    """What a take would say, without one."""
    wait_s = buckets.take(subject)
    if not wait_s:
        buckets.give_back(subject)
    return wait_s


def _pair(place: str, other: str) -> str:
    return f"{place} {other}"  # no address has a space


@functools.lru_cache(maxsize=1024)
def _place(peer: str) -> str:
    """Whose address it is; a peer that has none (a socket of this machine) is itself."""
    if ":" not in peer:
        return peer
    try:
        address = IPv6Address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> _SITE_BITS << _SITE_BITS))
