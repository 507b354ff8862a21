"""What can go wrong with outgoing webhooks, by name.

::

    Invalid
    └── WebhookUrlRefused        an address to which nothing is sent
    NotFound
    ├── WebhookEndpointNotFound
    └── WebhookDeliveryNotFound
    Conflict
    ├── TooManyWebhookEndpoints
    └── WebhooksNotConfigured    this system has no secret to sign with
"""

from __future__ import annotations

from kit.errors import Conflict, Invalid, NotFound


class WebhookUrlRefused(Invalid):
    code = "webhook_url_refused"
    title = "Nothing is sent to that address"


class WebhookEndpointNotFound(NotFound):
    code = "webhook_endpoint_not_found"
    title = "There is no such webhook endpoint"


class WebhookDeliveryNotFound(NotFound):
    code = "webhook_delivery_not_found"
    title = "There is no such webhook delivery"


class TooManyWebhookEndpoints(Conflict):
    code = "too_many_webhook_endpoints"
    title = "This city has as many webhook endpoints as it may have"


class WebhooksNotConfigured(Conflict):
    code = "webhooks_not_configured"
    title = "This system sends no webhooks"
