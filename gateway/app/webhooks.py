"""The parts that webhooks are made of, put together."""

from gateway.config import Webhooks
from gateway.manage.webhookactions import WebhookActions
from gateway.manage.webhooks import Ways, WebhookManager
from gateway.resolver import Resolver
from gateway.runtime import Clock, Supervisor
from gateway.store.sqlite import SqliteStore
from gateway.store.vault import Vault
from gateway.tokens import Tokens
from gateway.webhooks import formats, signing
from gateway.webhooks.dispatcher import Dispatcher
from gateway.webhooks.figures import WebhookFigures
from gateway.webhooks.pinging import Pinger
from gateway.webhooks.sender import Sender


class WebhookParts:
    """Endpoints can be managed and tested without a daemon; events are delivered by `dispatcher` alone."""

    def __init__(
        self, config: Webhooks, store: SqliteStore, resolver: Resolver, *, vault: Vault, tokens: Tokens, clock: Clock
    ) -> None:
        self._config = config
        self._store = store
        self._vault = vault
        self._tokens = tokens
        self._clock = clock
        self.sender = Sender(config, resolver, clock)
        ways = Ways(
            check_url=self.sender.check_url,
            check_secret=lambda text, standard: signing.check_secret(text, standard=standard),
            write_secret=signing.write_secret,
            words=lambda format_: formats.SHAPES[format_].types,
            pings=Pinger(self.sender, store.webhooks, vault, clock),
        )
        self.manager = WebhookManager(store.webhooks, store.event_log, ways, vault=vault, tokens=tokens, clock=clock)
        self.actions = WebhookActions(self.manager, clock).actions()

    def dispatcher(self, supervisor: Supervisor, figures: WebhookFigures) -> Dispatcher:
        """Who delivers; it is told of what is managed here. Once only."""
        made = Dispatcher(
            self._store.event_log,
            self._store.webhooks,
            self.sender,
            config=self._config,
            vault=self._vault,
            tokens=self._tokens,
            clock=self._clock,
            supervisor=supervisor,
            figures=figures,
        )
        self.manager.on_change = made.changed
        return made
