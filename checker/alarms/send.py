"""Sending, by Apprise: the one module that knows it. Needs the extra `[alarms]`; nothing else does."""

from __future__ import annotations

import logging
from typing import Any

from checker.alarms.channels import Channel
from checker.alarms.message import Message
from checker.finding import Severity
from checker.mask import plain
from checker.terms import Complaint

SECONDS = 30.0
"""For one message. Most services answer in one; a proxy or a mail server may take ten."""

EXTRA = "alarms need the extra: pip install 'training-checker[alarms]'"

_KIND = {Severity.CRITICAL: "failure", Severity.WARNING: "warning", Severity.INFO: "info"}


def library() -> Any:
    """Apprise, silent: what it logs is told here, without secrets.

    Raises:
        Complaint: it is not installed.
    """
    try:
        import apprise
    except ImportError:
        raise Complaint(EXTRA) from None
    log = logging.getLogger("apprise")
    log.propagate = False
    log.addHandler(logging.NullHandler())
    return apprise


class Sender:
    """Sends through one channel.

    Raises:
        Complaint: Apprise knows no such service, or its URL lacks something.
    """

    def __init__(self, channel: Channel) -> None:
        apprise = library()
        self._channel = channel
        asset = apprise.AppriseAsset(app_id="checker", app_desc="Training checker", app_url="")
        service = apprise.Apprise.instantiate(channel.url, asset=asset)
        if service is None:
            told = f"{channel.name} is no channel that Apprise knows, or its URL lacks something"
            raise Complaint(f"{told}; all of them: https://appriseit.com")
        self._apprise = apprise.Apprise(service, asset=asset)

    def __call__(self, message: Message) -> str:
        """Why it could not be sent; nothing when it was taken. It returns in time, whatever the other side does."""
        with self._apprise.notify(
            body=message.body,
            title=message.title,
            notify_type=_KIND[message.severity],
            body_format="text",
            timeout=SECONDS,
        ) as result:
            if result:
                return ""
            if result.status.name == "TIMEOUT":
                return f"no answer within {SECONDS:g} s"
            why = [entry.message for entry in result.logs()]
        return plain(self._channel.hide(why[-1] if why else "it was not taken"))
