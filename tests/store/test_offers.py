"""What a recipient can unsubscribe from, as the store knows it."""

import pytest
from msgspec.structs import replace

from gateway.store.offers import Offer
from tests.store.conftest import Store
from tests.store.mail import Post


@pytest.mark.parametrize(("scope", "tag"), [("*", ""), ("news", "news"), ("", "")])
async def test_of_each_recipient(store: Store, post: Post, scope: str, tag: str) -> None:
    message = replace(
        post.message("ann@example.com", "bob@example.com"), unsubscribe=scope, header_from="a@shop.example"
    )
    await store.enqueue(message)
    for recipient in message.recipients:
        offer = await store.offers.find(message.id, recipient.id)
        assert offer == Offer(message.id, recipient.id, scope, "a@shop.example", recipient.address)
        assert offer.tag == tag


async def test_without_a_number_it_is_the_only_one(store: Store, post: Post) -> None:
    alone, several = post.message("ann@example.com"), post.message("ann@example.com", "bob@example.com")
    for message in (alone, several):
        await store.enqueue(message)
    offer = await store.offers.find(alone.id, 0)
    assert offer is not None
    assert (offer.recipient, offer.address) == (alone.recipients[0].id, "ann@example.com")
    assert await store.offers.find(several.id, 0) is None


async def test_of_nobody_there_is_none(store: Store, post: Post) -> None:
    message = post.message("ann@example.com")
    await store.enqueue(message)
    assert await store.offers.find(message.id, message.recipients[0].id + 1) is None
    assert await store.offers.find(message.id + 1, message.recipients[0].id) is None


async def test_without_a_from_it_is_the_envelope_sender(store: Store, post: Post) -> None:
    message = replace(post.message("ann@example.com"), unsubscribe="*", header_from="")
    await store.enqueue(message)
    offer = await store.offers.find(message.id, 0)
    assert offer is not None
    assert offer.sender == message.envelope_sender
